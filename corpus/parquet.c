// The footer of a Parquet file (schema, row groups, where the column chunks lie), and rows across its columns.
//   PAR1 | column chunks of row group 0 | of row group 1 | ... | footer (Thrift) | its length, u32 | PAR1
#include "corpus/parquet.h"

#include "corpus/parquet_column.h"
#include "corpus/thrift.h"
#include "ir/base/io.h"
#include "ir/base/str.h"
#include "ir/base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BYTE_ARRAY = 6, REQUIRED = 0, OPTIONAL = 1, MAX_SELECTED = 64 };

typedef struct Leaf {      // a column with values, in the order of the chunks
  char *name;              // NULL: below the top level
  int type, repetition;
} Leaf;

struct MuseParquet {
  char *name;
  int fd;                  // -1: the bytes are the caller's
  MuseParquetSource source;
  uint8_t *footer;
  size_t footer_bytes;
  int64_t n_rows;
  MUSE_VEC(Leaf) leaves;
  MUSE_VEC(uint32_t) groups; // where in the footer each row group starts
  // The rows.
  MuseParquetColumn columns[MAX_SELECTED];
  int leaf_of[MAX_SELECTED], n_columns;
  size_t next_group;
  int64_t group_left;
};

static MuseStatus damaged(const MuseParquet *f, const char *what, MuseDiag *diag) {
  return muse_error(diag, MUSE_ERR_INPUT, "'%s' is no sound Parquet file: %s; fetch or write it again", f->name, what);
}

static char *copy_text(const char *text, size_t n) {
  char *copy = malloc(n + 1);
  if (!copy) muse_out_of_memory(n + 1);
  memcpy(copy, text, n);
  copy[n] = 0;
  return copy;
}

// ---- schema

typedef struct Element { int64_t type, repetition, n_children; const uint8_t *name; size_t name_bytes; } Element;

static void read_element(MuseThrift *t, Element *e) {
  *e = (Element){.type = -1, .repetition = REQUIRED};
  int id = 0;
  for (MuseThriftType type; muse_thrift_field(t, &id, &type);) {
    if (id == 1) e->type = muse_thrift_int(t, type);
    else if (id == 3) e->repetition = muse_thrift_int(t, type);
    else if (id == 4) e->name = muse_thrift_binary(t, type, &e->name_bytes);
    else if (id == 5) e->n_children = muse_thrift_int(t, type);
    else muse_thrift_skip(t, type);
  }
}

// The schema is a tree in depth-first order. Leaves at its top are columns that can be chosen.
static void read_schema(MuseParquet *f, MuseThrift *t, MuseThriftType list_type) {
  MuseThriftType element_type;
  size_t n = muse_thrift_list(t, list_type, &element_type);
  int64_t below = 0; // elements that are still to come below a top-level group
  if (element_type != MUSE_THRIFT_STRUCT) t->bad = true;
  for (size_t i = 0; i < n && !t->bad; i++) {
    Element e;
    read_element(t, &e);
    if (t->bad || e.n_children < 0 || e.n_children > (int64_t)n) t->bad = true;
    else if (i > 0) { // 0 is the root
      bool top = below == 0;
      if (!top) below--;
      below += e.n_children;
      if (e.n_children == 0) {
        Leaf leaf = {top && e.name ? copy_text((const char *)e.name, e.name_bytes) : NULL, (int)e.type,
                     (int)e.repetition};
        muse_vec_push(&f->leaves, leaf);
      }
    }
  }
}

static void read_groups(MuseParquet *f, MuseThrift *t, MuseThriftType list_type) {
  MuseThriftType element_type;
  size_t n = muse_thrift_list(t, list_type, &element_type);
  if (element_type != MUSE_THRIFT_STRUCT) t->bad = true;
  for (size_t i = 0; i < n && !t->bad; i++) {
    muse_vec_push(&f->groups, (uint32_t)(t->at - f->footer));
    muse_thrift_skip_element(t, element_type);
  }
}

static MuseStatus read_footer(MuseParquet *f, MuseDiag *diag) {
  uint8_t tail[8];
  uint64_t size = f->source.size;
  if (size < 12) return damaged(f, "it is too short", diag);
  if (!f->source.read(f->source.user, size - 8, tail, 8)) return damaged(f, "its end is unreadable", diag);
  if (memcmp(tail + 4, "PARE", 4) == 0)
    return muse_error(diag, MUSE_ERR_INPUT, "'%s' is an encrypted Parquet file; decrypt it first", f->name);
  if (memcmp(tail + 4, "PAR1", 4) != 0) return damaged(f, "it does not end with PAR1", diag);
  uint32_t bytes;
  memcpy(&bytes, tail, 4);
  if (bytes > size - 12 || bytes > MUSE_PARQUET_MAX_FOOTER) return damaged(f, "its footer has a wrong length", diag);
  f->footer = malloc(bytes + 1u);
  if (!f->footer) muse_out_of_memory(bytes + 1u);
  f->footer_bytes = bytes;
  if (!f->source.read(f->source.user, size - 8 - bytes, f->footer, bytes))
    return damaged(f, "its footer is unreadable", diag);
  MuseThrift t = {f->footer, f->footer + bytes, false, false};
  int id = 0;
  f->n_rows = -1;
  for (MuseThriftType type; muse_thrift_field(&t, &id, &type);) {
    if (id == 2 && !f->leaves.len) read_schema(f, &t, type);
    else if (id == 3) f->n_rows = muse_thrift_int(&t, type);
    else if (id == 4 && !f->groups.len) read_groups(f, &t, type);
    else muse_thrift_skip(&t, type);
  }
  return t.bad || f->n_rows < 0 ? damaged(f, "its footer is damaged", diag) : MUSE_OK;
}

// ---- open and close

static bool read_fd(void *user, uint64_t at, void *out, size_t n) {
  int fd = *(int *)user;
  for (size_t done = 0; done < n;) {
    ssize_t got = pread(fd, (char *)out + done, n - done, (off_t)(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += (size_t)got;
  }
  return true;
}

static MuseParquet *create(const char *name) {
  MuseParquet *f = calloc(1, sizeof *f);
  if (!f) muse_out_of_memory(sizeof *f);
  f->name = copy_text(name, strlen(name));
  f->fd = -1;
  return f;
}

static MuseStatus finish_open(MuseParquet *f, MuseParquet **out_file, MuseDiag *diag) {
  MuseStatus status = read_footer(f, diag);
  if (status == MUSE_OK) *out_file = f;
  else muse_parquet_close(f);
  return status;
}

MuseStatus muse_parquet_open_source(const char *name, const MuseParquetSource *source, MuseParquet **out_file,
                                    MuseDiag *diag) {
  *out_file = NULL;
  MuseParquet *f = create(name);
  f->source = *source;
  return finish_open(f, out_file, diag);
}

MuseStatus muse_parquet_open(const char *path, MuseParquet **out_file, MuseDiag *diag) {
  *out_file = NULL;
  MuseParquet *f = create(path);
  struct stat st;
  f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (f->fd < 0 || fstat(f->fd, &st) != 0) {
    int code = errno;
    muse_parquet_close(f);
    return muse_io_error(diag, "read", path, code);
  }
  if (!S_ISREG(st.st_mode)) {
    muse_parquet_close(f);
    return muse_error(diag, MUSE_ERR_INPUT, "cannot read '%s': it is not a regular file", path);
  }
  f->source = (MuseParquetSource){(uint64_t)st.st_size, read_fd, &f->fd};
  return finish_open(f, out_file, diag);
}

void muse_parquet_close(MuseParquet *f) {
  if (!f) return;
  for (int i = 0; i < f->n_columns; i++) muse_parquet_column_free(&f->columns[i]);
  for (size_t i = 0; i < f->leaves.len; i++) free(f->leaves.data[i].name);
  muse_vec_free(&f->leaves);
  muse_vec_free(&f->groups);
  if (f->fd >= 0) close(f->fd);
  free(f->footer);
  free(f->name);
  free(f);
}

int64_t muse_parquet_rows(const MuseParquet *file) { return file->n_rows; }

// ---- rows

static MuseStatus no_column(const MuseParquet *f, const char *name, MuseDiag *diag) {
  MuseStr all = {0};
  for (size_t i = 0; i < f->leaves.len && all.len < 300; i++) {
    const Leaf *leaf = &f->leaves.data[i];
    if (leaf->name && leaf->type == BYTE_ARRAY) muse_str_appendf(&all, "%s%.60s", all.len ? ", " : "", leaf->name);
  }
  MuseStatus status =
      muse_error(diag, MUSE_ERR_INPUT, "'%s' has no column '%s'; its columns of text are: %s", f->name, name,
                 all.len ? all.data : "none");
  muse_str_free(&all);
  return status;
}

MuseStatus muse_parquet_select(MuseParquet *f, const char *const *names, int n_names, MuseDiag *diag) {
  MUSE_ASSERT(f->n_columns == 0 && n_names > 0);
  if (n_names > MAX_SELECTED)
    return muse_error(diag, MUSE_ERR_INPUT, "a record is made of at most %d columns, not %d", MAX_SELECTED, n_names);
  for (int i = 0; i < n_names; i++) {
    size_t k = 0;
    while (k < f->leaves.len && !(f->leaves.data[k].name && muse_str_eq(f->leaves.data[k].name, names[i]))) k++;
    if (k == f->leaves.len) return no_column(f, names[i], diag);
    const Leaf *leaf = &f->leaves.data[k];
    if (leaf->type != BYTE_ARRAY || (leaf->repetition != REQUIRED && leaf->repetition != OPTIONAL))
      return muse_error(diag, MUSE_ERR_INPUT, "'%s': the column '%s' holds no text; choose another", f->name, names[i]);
    f->columns[i] = (MuseParquetColumn){.file = f->name, .name = leaf->name, .source = &f->source,
                                        .optional = leaf->repetition == OPTIONAL};
    f->leaf_of[i] = (int)k;
    f->n_columns = i + 1;
  }
  return MUSE_OK;
}

typedef struct Chunk { bool found; int64_t type, codec, n_values, bytes, data_at, dictionary_at; } Chunk;

static void read_chunk_facts(MuseThrift *t, Chunk *c) {
  int id = 0;
  *c = (Chunk){.found = true, .type = -1, .codec = -1, .n_values = -1, .bytes = -1, .data_at = -1, .dictionary_at = -1};
  for (MuseThriftType type; muse_thrift_field(t, &id, &type);) {
    if (id == 1) c->type = muse_thrift_int(t, type);
    else if (id == 4) c->codec = muse_thrift_int(t, type);
    else if (id == 5) c->n_values = muse_thrift_int(t, type);
    else if (id == 7) c->bytes = muse_thrift_int(t, type);
    else if (id == 9) c->data_at = muse_thrift_int(t, type);
    else if (id == 11) c->dictionary_at = muse_thrift_int(t, type);
    else muse_thrift_skip(t, type);
  }
}

static void read_chunk(MuseThrift *t, Chunk *c) {
  int id = 0;
  for (MuseThriftType type; muse_thrift_field(t, &id, &type);) {
    if (id == 1) t->bad = true; // the chunk lies in another file
    else if (id == 3 && type == MUSE_THRIFT_STRUCT) read_chunk_facts(t, c);
    else muse_thrift_skip(t, type);
  }
}

static MuseStatus start_column(MuseParquet *f, int i, const Chunk *c, int64_t n_rows, MuseDiag *diag) {
  const MuseParquetColumn *column = &f->columns[i];
  if (!c->found || c->type != BYTE_ARRAY || c->n_values != n_rows)
    return damaged(f, "a row group does not fit the schema", diag);
  const char *problem = c->codec < INT32_MIN || c->codec > INT32_MAX ? "an unknown method" :
                        muse_parquet_codec_problem((int)c->codec);
  if (problem)
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s': the column '%s' is packed with %s, which MUSE does not read; write it with zstd or snappy",
                      f->name, column->name, problem);
  // Some old writers give a dictionary's place as 0 where there is none.
  int64_t at = c->dictionary_at > 0 && c->dictionary_at < c->data_at ? c->dictionary_at : c->data_at;
  uint64_t size = f->source.size;
  if (at < 4 || c->bytes < 0 || (uint64_t)at > size || (uint64_t)c->bytes > size - (uint64_t)at)
    return damaged(f, "a column chunk lies outside the file", diag);
  muse_parquet_column_start(&f->columns[i], (int)c->codec, (uint64_t)at, (uint64_t)c->bytes, n_rows);
  return MUSE_OK;
}

static MuseStatus start_group(MuseParquet *f, MuseDiag *diag) {
  MuseThrift t = {f->footer + f->groups.data[f->next_group++], f->footer + f->footer_bytes, false, false};
  Chunk chunks[MAX_SELECTED] = {0};
  int64_t n_rows = -1;
  int id = 0;
  for (MuseThriftType type, element; muse_thrift_field(&t, &id, &type);) {
    if (id == 3) {
      n_rows = muse_thrift_int(&t, type);
    } else if (id == 1) {
      size_t n = muse_thrift_list(&t, type, &element);
      if (element != MUSE_THRIFT_STRUCT || n != f->leaves.len)
        return damaged(f, "a row group does not fit the schema", diag);
      for (size_t k = 0; k < n && !t.bad; k++) {
        int column = 0;
        while (column < f->n_columns && f->leaf_of[column] != (int)k) column++;
        if (column < f->n_columns) read_chunk(&t, &chunks[column]);
        else muse_thrift_skip_element(&t, element);
      }
    } else {
      muse_thrift_skip(&t, type);
    }
  }
  if (t.bad || n_rows < 0) return damaged(f, "a row group is damaged", diag);
  for (int i = 0; i < f->n_columns; i++) MUSE_TRY(start_column(f, i, &chunks[i], n_rows, diag));
  f->group_left = n_rows;
  return MUSE_OK;
}

MuseStatus muse_parquet_next(MuseParquet *f, MuseSlice *out_values, bool *out_more, MuseDiag *diag) {
  MUSE_ASSERT(f->n_columns > 0);
  *out_more = false;
  while (f->group_left == 0) {
    if (f->next_group == f->groups.len) return MUSE_OK;
    MUSE_TRY(start_group(f, diag));
  }
  f->group_left--;
  for (int i = 0; i < f->n_columns; i++) MUSE_TRY(muse_parquet_column_next(&f->columns[i], &out_values[i], diag));
  *out_more = true;
  return MUSE_OK;
}
