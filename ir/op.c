// The table of ops made from ops.def, their attribute schemas, and attribute lists.
#include "ir/op.h"

#include "ir/base/status.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const MuseOpInfo op_infos[MUSE_N_OPS] = {
#define MUSE_OP(name, class_, min_operands, max_operands, results, traits, attrs) \
  [MUSE_OP_##name] = {#name, class_, min_operands, max_operands, results, traits, attrs},
#include "ops/ops.def"
#undef MUSE_OP
};

#define MAX_SCHEMA_ENTRIES 8

// Made once from op_infos: schemas, and kinds sorted by name for lookups.
static struct {
  MuseAttrSchema entries[MUSE_N_OPS][MAX_SCHEMA_ENTRIES];
  int n_entries[MUSE_N_OPS];
  int by_name[MUSE_N_OPS];
} tables;
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static const char *const attr_kind_names[] = {"int", "real", "bool", "text", "ints", "dtype"};

const char *muse_attr_kind_name(MuseAttrKind kind) {
  MUSE_ASSERT((unsigned)kind < sizeof attr_kind_names / sizeof *attr_kind_names);
  return attr_kind_names[kind];
}

static char *copy_text(const char *text, size_t length) {
  char *copy = strndup(text, length); // lives as long as the program
  MUSE_ASSERT(copy);
  return copy;
}

static void parse_default(MuseAttrSchema *entry, const char *text, size_t length) {
  char *value = copy_text(text, length);
  bool ok = true;
  switch (entry->kind) {
    case MUSE_ATTR_INT: ok = muse_parse_i64(value, &entry->value.i); break;
    case MUSE_ATTR_REAL: ok = muse_parse_double(value, &entry->value.real); break;
    case MUSE_ATTR_BOOL:
      entry->value.b = muse_str_eq(value, "true");
      ok = entry->value.b || muse_str_eq(value, "false");
      break;
    case MUSE_ATTR_TEXT: entry->value.text = value; break;
    case MUSE_ATTR_DTYPE: ok = muse_dtype_from_name(text, length, &entry->value.dtype); break;
    case MUSE_ATTR_INTS: ok = false; break; // no op needs a list as default
  }
  MUSE_ASSERT(ok && "bad default in ops.def");
  if (entry->kind != MUSE_ATTR_TEXT) free(value);
}

// "axes:ints, eps:real=1e-06, name:text?"
static void parse_schema(int kind) {
  for (const char *p = op_infos[kind].attrs; *p;) {
    MUSE_ASSERT(tables.n_entries[kind] < MAX_SCHEMA_ENTRIES);
    MuseAttrSchema *entry = &tables.entries[kind][tables.n_entries[kind]++];
    const char *end = strchr(p, ','), *colon = strchr(p, ':');
    if (!end) end = p + strlen(p);
    MUSE_ASSERT(colon && colon < end);
    size_t word = strcspn(colon + 1, "=?,");
    int k = 0;
    while (strlen(attr_kind_names[k]) != word || strncmp(attr_kind_names[k], colon + 1, word) != 0) {
      MUSE_ASSERT(++k < 6 && "unknown attribute kind in ops.def");
    }
    entry->kind = (MuseAttrKind)k;
    entry->value.name = copy_text(p, (size_t)(colon - p));
    entry->value.kind = entry->kind;
    const char *tail = colon + 1 + word;
    entry->has_default = *tail == '=';
    entry->required = *tail != '=' && *tail != '?';
    if (entry->has_default) parse_default(entry, tail + 1, (size_t)(end - tail - 1));
    p = end + strspn(end, ", ");
  }
}

static int compare_names(const void *a, const void *b) {
  return strcmp(op_infos[*(const int *)a].name, op_infos[*(const int *)b].name);
}

static void make_tables(void) {
  for (int k = 0; k < MUSE_N_OPS; k++) {
    parse_schema(k);
    tables.by_name[k] = k;
  }
  qsort(tables.by_name, MUSE_N_OPS, sizeof *tables.by_name, compare_names);
}

const MuseOpInfo *muse_op_info(MuseOpKind kind) {
  MUSE_ASSERT((unsigned)kind < MUSE_N_OPS);
  return &op_infos[kind];
}

const MuseAttrSchema *muse_op_schema(MuseOpKind kind, int *out_n) {
  MUSE_ASSERT((unsigned)kind < MUSE_N_OPS);
  pthread_once(&tables_once, make_tables);
  *out_n = tables.n_entries[kind];
  return tables.entries[kind];
}

bool muse_op_kind_from_name(const char *name, size_t length, MuseOpKind *out) {
  pthread_once(&tables_once, make_tables);
  int low = 0, high = MUSE_N_OPS;
  while (low < high) {
    int middle = (low + high) / 2, kind = tables.by_name[middle];
    int order = strncmp(op_infos[kind].name, name, length);
    if (order == 0 && op_infos[kind].name[length] != '\0') order = 1;
    if (order == 0) {
      *out = (MuseOpKind)kind;
      return true;
    }
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return false;
}

// --- attribute lists ---

const MuseAttr *muse_attr_find(const MuseAttrList *list, const char *name) {
  for (int i = 0; i < list->len; i++) {
    const char *have = list->data[i].name; // most differ in the first letter, and this is called very often
    if (have == name || (*have == *name && strcmp(have, name) == 0)) return &list->data[i];
  }
  return NULL;
}

// The entry of that name, made when absent; its value is cleared.
static MuseAttr *attr_slot(MuseModule *m, MuseAttrList *list, const char *name, MuseAttrKind kind) {
  MuseAttr *slot = (MuseAttr *)muse_attr_find(list, name);
  if (slot) {
    *slot = (MuseAttr){.name = slot->name, .kind = kind};
    return slot;
  }
  if (list->len == list->cap) {
    int cap = list->cap ? list->cap * 2 : 4;
    MuseAttr *data = MUSE_NEW_ARRAY(m->arena, MuseAttr, cap);
    if (list->len) memcpy(data, list->data, sizeof *data * (size_t)list->len);
    list->data = data;
    list->cap = cap;
  }
  slot = &list->data[list->len++];
  *slot = (MuseAttr){.name = muse_arena_strdup(m->arena, name), .kind = kind};
  return slot;
}

void muse_attr_set_int(MuseModule *m, MuseAttrList *list, const char *name, int64_t value) {
  attr_slot(m, list, name, MUSE_ATTR_INT)->i = value;
}
void muse_attr_set_real(MuseModule *m, MuseAttrList *list, const char *name, double value) {
  attr_slot(m, list, name, MUSE_ATTR_REAL)->real = value;
}
void muse_attr_set_bool(MuseModule *m, MuseAttrList *list, const char *name, bool value) {
  attr_slot(m, list, name, MUSE_ATTR_BOOL)->b = value;
}
void muse_attr_set_text(MuseModule *m, MuseAttrList *list, const char *name, const char *value) {
  const char *copy = muse_arena_strdup(m->arena, value); // before the slot is cleared: value may be the old text
  attr_slot(m, list, name, MUSE_ATTR_TEXT)->text = copy;
}
void muse_attr_set_ints(MuseModule *m, MuseAttrList *list, const char *name, const int64_t *data, int len) {
  MUSE_ASSERT(len >= 0);
  int64_t *copy = MUSE_NEW_ARRAY(m->arena, int64_t, len);
  if (len) memcpy(copy, data, sizeof *copy * (size_t)len);
  MuseAttr *slot = attr_slot(m, list, name, MUSE_ATTR_INTS);
  slot->ints.data = copy;
  slot->ints.len = len;
}
void muse_attr_set_dtype(MuseModule *m, MuseAttrList *list, const char *name, MuseDtype value) {
  attr_slot(m, list, name, MUSE_ATTR_DTYPE)->dtype = value;
}

void muse_attr_remove(MuseAttrList *list, const char *name) {
  MuseAttr *slot = (MuseAttr *)muse_attr_find(list, name);
  if (!slot) return;
  int i = (int)(slot - list->data);
  memmove(slot, slot + 1, sizeof *slot * (size_t)(list->len - i - 1));
  list->len--;
}

void muse_attr_copy(MuseModule *m, MuseAttrList *to, const MuseAttrList *from) {
  for (int i = 0; i < from->len; i++) {
    const MuseAttr *a = &from->data[i];
    switch (a->kind) {
      case MUSE_ATTR_INT: muse_attr_set_int(m, to, a->name, a->i); break;
      case MUSE_ATTR_REAL: muse_attr_set_real(m, to, a->name, a->real); break;
      case MUSE_ATTR_BOOL: muse_attr_set_bool(m, to, a->name, a->b); break;
      case MUSE_ATTR_TEXT: muse_attr_set_text(m, to, a->name, a->text); break;
      case MUSE_ATTR_INTS: muse_attr_set_ints(m, to, a->name, a->ints.data, a->ints.len); break;
      case MUSE_ATTR_DTYPE: muse_attr_set_dtype(m, to, a->name, a->dtype); break;
    }
  }
}

bool muse_attr_eq(const MuseAttr *a, const MuseAttr *b) {
  if (a->kind != b->kind || strcmp(a->name, b->name) != 0) return false;
  switch (a->kind) {
    case MUSE_ATTR_INT: return a->i == b->i;
    case MUSE_ATTR_REAL:
      return memcmp(&a->real, &b->real, sizeof a->real) == 0; // bits: nan equals nan, 0 differs from -0
    case MUSE_ATTR_BOOL: return a->b == b->b;
    case MUSE_ATTR_TEXT: return strcmp(a->text, b->text) == 0;
    case MUSE_ATTR_INTS:
      return a->ints.len == b->ints.len &&
             (a->ints.len == 0 || memcmp(a->ints.data, b->ints.data, sizeof *a->ints.data * (size_t)a->ints.len) == 0);
    case MUSE_ATTR_DTYPE: return a->dtype == b->dtype;
  }
  return false;
}

static const MuseAttr *find_kind(const MuseAttrList *list, const char *name, MuseAttrKind kind) {
  const MuseAttr *a = muse_attr_find(list, name);
  MUSE_ASSERT(!a || a->kind == kind);
  return a;
}

static const MuseAttr *need_kind(const MuseAttrList *list, const char *name, MuseAttrKind kind) {
  const MuseAttr *a = find_kind(list, name, kind);
  MUSE_ASSERT(a && "attribute is missing");
  return a;
}

int64_t muse_attr_int(const MuseAttrList *list, const char *name) { return need_kind(list, name, MUSE_ATTR_INT)->i; }
double muse_attr_real(const MuseAttrList *list, const char *name) {
  return need_kind(list, name, MUSE_ATTR_REAL)->real;
}
const MuseAttr *muse_attr_ints(const MuseAttrList *list, const char *name) {
  return need_kind(list, name, MUSE_ATTR_INTS);
}
MuseDtype muse_attr_dtype(const MuseAttrList *list, const char *name) {
  return need_kind(list, name, MUSE_ATTR_DTYPE)->dtype;
}

int64_t muse_attr_int_or(const MuseAttrList *list, const char *name, int64_t fallback) {
  const MuseAttr *a = find_kind(list, name, MUSE_ATTR_INT);
  return a ? a->i : fallback;
}
double muse_attr_real_or(const MuseAttrList *list, const char *name, double fallback) {
  const MuseAttr *a = find_kind(list, name, MUSE_ATTR_REAL);
  return a ? a->real : fallback;
}
bool muse_attr_bool_or(const MuseAttrList *list, const char *name, bool fallback) {
  const MuseAttr *a = find_kind(list, name, MUSE_ATTR_BOOL);
  return a ? a->b : fallback;
}
const char *muse_attr_text_or(const MuseAttrList *list, const char *name, const char *fallback) {
  const MuseAttr *a = find_kind(list, name, MUSE_ATTR_TEXT);
  return a ? a->text : fallback;
}

// The attribute of an op, or its default in ops.def.
static const MuseAttr *op_attr(const MuseOp *op, const char *name, MuseAttrKind kind) {
  const MuseAttr *a = find_kind(&op->attrs, name, kind);
  if (a) return a;
  int n;
  const MuseAttrSchema *schema = muse_op_schema(op->kind, &n);
  for (int i = 0; i < n; i++) {
    if (schema[i].has_default && schema[i].kind == kind && strcmp(schema[i].value.name, name) == 0)
      return &schema[i].value;
  }
  MUSE_ASSERT(!"the op has no such attribute and no default for it");
  return NULL;
}

int64_t muse_op_int(const MuseOp *op, const char *name) { return op_attr(op, name, MUSE_ATTR_INT)->i; }
double muse_op_real(const MuseOp *op, const char *name) { return op_attr(op, name, MUSE_ATTR_REAL)->real; }
bool muse_op_bool(const MuseOp *op, const char *name) { return op_attr(op, name, MUSE_ATTR_BOOL)->b; }
const char *muse_op_text(const MuseOp *op, const char *name) { return op_attr(op, name, MUSE_ATTR_TEXT)->text; }
MuseDtype muse_op_dtype(const MuseOp *op, const char *name) { return op_attr(op, name, MUSE_ATTR_DTYPE)->dtype; }
