// Bounded YAML reader over libyaml's event parser (see config_yaml.h). The tree is built without recursion and without
// resolving aliases, so time and memory are linear in a text of at most MUSE_YAML_MAX_BYTES.
#include "compiler/config_yaml.h"

#include <stdint.h>
#include <string.h>
#include <yaml.h>

typedef struct Reader {
  yaml_parser_t parser;
  const char *file;
  MuseArena *arena;
  MuseDiag *diag;
  MuseYamlNode *root;
  MuseYamlNode *open[MUSE_YAML_MAX_DEPTH];        // mappings and lists that have not ended
  MuseYamlNode *pending_key[MUSE_YAML_MAX_DEPTH]; // of open mappings: the key that waits for its value
  int depth, nodes, documents;
} Reader;

static MuseLoc loc_of(const Reader *r, yaml_mark_t mark) {
  return (MuseLoc){.file = r->file, .line = (int)mark.line + 1, .col = (int)mark.column + 1};
}

const char *muse_yaml_excerpt(MuseArena *arena, const char *text, size_t length) {
  enum { SHOWN = 40 };
  char *out = muse_arena_alloc(arena, 4 * SHOWN + 8);
  size_t n = 0, i = 0;
  for (; i < length && i < SHOWN; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c == '\n') {
      memcpy(out + n, "\\n", 2);
      n += 2;
    } else if (c == '\t') {
      memcpy(out + n, "\\t", 2);
      n += 2;
    } else if (c < 0x20 || c == 0x7f) {
      static const char hex[] = "0123456789abcdef";
      out[n++] = '\\', out[n++] = 'x', out[n++] = hex[c >> 4], out[n++] = hex[c & 15];
    } else out[n++] = (char)c;
  }
  if (i < length) {
    // Cut between characters: continuation bytes 10xxxxxx belong to the character before them.
    while (i > 0 && n > 0 && ((unsigned char)text[i] & 0xC0) == 0x80) i--, n--;
    memcpy(out + n, "...", 3), n += 3;
  }
  out[n] = '\0';
  return out;
}

bool muse_yaml_is_null(const MuseYamlNode *node) {
  if (node->kind != MUSE_YAML_SCALAR || node->quoted) return false;
  static const char *const words[] = {"", "~", "null", "Null", "NULL"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (!strcmp(node->text, words[i])) return node->length == strlen(words[i]);
  return false;
}

// Length of the well-formed UTF-8 character at p (RFC 3629: no overlong forms, no surrogates), 0 for anything else.
static size_t utf8_length(const unsigned char *p, size_t left, uint32_t *out_code) {
  static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (p[0] < 0x80) return *out_code = p[0], 1;
  size_t n = p[0] >= 0xF0 && p[0] < 0xF8 ? 4 : p[0] >= 0xE0 ? 3 : p[0] >= 0xC0 ? 2 : 0;
  if (p[0] >= 0xF8 || n == 0 || n > left) return 0;
  uint32_t code = p[0] & (0x7Fu >> n);
  for (size_t i = 1; i < n; i++) {
    if ((p[i] & 0xC0) != 0x80) return 0;
    code = code << 6 | (p[i] & 0x3F);
  }
  if (code < smallest[n] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return 0;
  *out_code = code;
  return n;
}

// libyaml reports bad characters without a line, so they are looked for first.
static MuseStatus check_characters(Reader *r, const char *text, size_t length) {
  MuseLoc at = {.file = r->file, .line = 1, .col = 1};
  for (size_t i = 0; i < length;) {
    uint32_t c = 0;
    size_t n = utf8_length((const unsigned char *)text + i, length - i, &c);
    if (n == 0)
      return muse_error_at(r->diag, MUSE_ERR_INPUT, at, "byte 0x%02x is not UTF-8; save the file as UTF-8 text",
                           (unsigned char)text[i]);
    if (c == 0)
      return muse_error_at(r->diag, MUSE_ERR_INPUT, at, "a NUL byte; a config is plain text, remove the byte");
    bool allowed = c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c < 0x7f) || c == 0x85 ||
                   (c >= 0xA0 && c != 0xFFFE && c != 0xFFFF);
    if (!allowed)
      return muse_error_at(r->diag, MUSE_ERR_INPUT, at, "control character U+%04X; remove it, or write \"\\u%04X\"", c,
                           c);
    at.col++;
    if (c == '\n') at.line++, at.col = 1;
    i += n;
  }
  return MUSE_OK;
}

static MuseStatus attach(Reader *r, MuseYamlNode *node) {
  if (++r->nodes > MUSE_YAML_MAX_NODES)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, node->loc, "more than %d values; a config has a few dozen",
                         MUSE_YAML_MAX_NODES);
  if (r->depth == 0) {
    r->root = node;
    return MUSE_OK;
  }
  MuseYamlNode *parent = r->open[r->depth - 1];
  if (parent->kind == MUSE_YAML_MAPPING) {
    MuseYamlNode **key = &r->pending_key[r->depth - 1];
    if (!*key) {
      if (node->kind != MUSE_YAML_SCALAR)
        return muse_error_at(r->diag, MUSE_ERR_INPUT, node->loc, "a key must be a word, not a %s",
                             node->kind == MUSE_YAML_LIST ? "list" : "mapping");
      *key = node;
      return MUSE_OK;
    }
    node->key = *key;
    *key = NULL;
  }
  if (parent->last) parent->last->next = node;
  else parent->first = node;
  parent->last = node;
  return MUSE_OK;
}

static MuseStatus open_node(Reader *r, MuseYamlNode *node) {
  if (r->depth == MUSE_YAML_MAX_DEPTH)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, node->loc,
                         "nested deeper than %d levels; a config is a flat list of keys", MUSE_YAML_MAX_DEPTH);
  MUSE_TRY(attach(r, node));
  r->pending_key[r->depth] = NULL;
  r->open[r->depth++] = node;
  return MUSE_OK;
}

static MuseYamlNode *new_node(Reader *r, MuseYamlKind kind, yaml_mark_t mark) {
  MuseYamlNode *node = MUSE_NEW(r->arena, MuseYamlNode);
  node->kind = kind;
  node->loc = loc_of(r, mark);
  return node;
}

static MuseStatus check_properties(Reader *r, MuseLoc loc, const yaml_char_t *anchor, const yaml_char_t *tag) {
  if (anchor)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, loc, "anchors are not used in configs; remove '&%s'",
                         muse_yaml_excerpt(r->arena, (const char *)anchor, strlen((const char *)anchor)));
  if (tag)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, loc, "tags are not used in configs; remove the tag '%s'",
                         muse_yaml_excerpt(r->arena, (const char *)tag, strlen((const char *)tag)));
  return MUSE_OK;
}

static MuseStatus handle_event(Reader *r, const yaml_event_t *e) {
  MuseLoc loc = loc_of(r, e->start_mark);
  switch (e->type) {
  case YAML_DOCUMENT_START_EVENT:
    if (++r->documents > 1)
      return muse_error_at(r->diag, MUSE_ERR_INPUT, loc, "a second document starts here; a config is one document");
    return MUSE_OK;
  case YAML_ALIAS_EVENT:
    return muse_error_at(
        r->diag, MUSE_ERR_INPUT, loc, "aliases are not used in configs; write the value instead of '*%s'",
        muse_yaml_excerpt(r->arena, (const char *)e->data.alias.anchor, strlen((const char *)e->data.alias.anchor)));
  case YAML_SCALAR_EVENT: {
    MUSE_TRY(check_properties(r, loc, e->data.scalar.anchor, e->data.scalar.tag));
    MuseYamlNode *node = new_node(r, MUSE_YAML_SCALAR, e->start_mark);
    node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->length = e->data.scalar.length;
    char *text = muse_arena_alloc(r->arena, node->length + 1);
    memcpy(text, e->data.scalar.value, node->length);
    node->text = text;
    return attach(r, node);
  }
  case YAML_SEQUENCE_START_EVENT:
    MUSE_TRY(check_properties(r, loc, e->data.sequence_start.anchor, e->data.sequence_start.tag));
    return open_node(r, new_node(r, MUSE_YAML_LIST, e->start_mark));
  case YAML_MAPPING_START_EVENT:
    MUSE_TRY(check_properties(r, loc, e->data.mapping_start.anchor, e->data.mapping_start.tag));
    return open_node(r, new_node(r, MUSE_YAML_MAPPING, e->start_mark));
  case YAML_SEQUENCE_END_EVENT:
  case YAML_MAPPING_END_EVENT: r->depth--; return MUSE_OK;
  default: return MUSE_OK;
  }
}

// What libyaml says about the mistakes that people make, in the words of somebody who writes a config.
static const struct {
  const char *problem, *sentence;
} syntax_sentences[] = {
    {"mapping values are not allowed",
     "this ':' has no place here; give every 'key: value' a line of its own, look for a "
     "missing ':' in the line before, and put text with a colon in quotes"},
    {"could not find expected ':'", "a line without 'key: value'; write a colon and a space after the key"},
    {"unexpected end of stream", "this quote is never closed; add the closing quote"},
    {"did not find expected ',' or ']'", "this '[' is never closed; add ']'"},
    {"did not find expected ',' or '}'", "this '{' is never closed; add '}'"},
    {"did not find expected node content", "a value is missing, or a bracket has no partner; write 'key: value'"},
    {"tab character", "a tab is no indentation in YAML; use spaces"},
    {"did not find expected <document start>",
     "this line is indented less than the first; start all keys in the same column"},
    {"did not find expected key", "this line is no 'key: value' like the others; start all keys in the same column"},
    {"unknown escape character",
     "an escape that YAML does not know; write \\\\ for a backslash, or use 'single quotes'"},
    {"incompatible YAML document", "a YAML version other than 1.1 and 1.2; remove the %YAML line"},
    {"cannot start any token", "no value starts with this character; put text in quotes, and indent with spaces"},
};

static MuseStatus syntax_error(Reader *r) {
  const yaml_parser_t *p = &r->parser;
  if (p->error == YAML_MEMORY_ERROR)
    return muse_error(r->diag, MUSE_ERR_FAILED, "out of memory while reading %s", r->file);
  const char *problem = p->problem ? p->problem : "unreadable text";
  if (p->error == YAML_READER_ERROR)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, (MuseLoc){.file = r->file, .line = 1, .col = 1},
                         "not YAML: %s at byte %zu", problem, p->problem_offset);
  // The place where an unfinished thing started says more than the place where the text ran out.
  bool at_context = p->context && (p->context_mark.line < p->problem_mark.line || strstr(problem, "unexpected end"));
  MuseLoc loc = loc_of(r, at_context ? p->context_mark : p->problem_mark);
  for (size_t i = 0; i < sizeof syntax_sentences / sizeof *syntax_sentences; i++)
    if (strstr(problem, syntax_sentences[i].problem))
      return muse_error_at(r->diag, MUSE_ERR_INPUT, loc, "%s", syntax_sentences[i].sentence);
  return muse_error_at(r->diag, MUSE_ERR_INPUT, loc, "not YAML: %s%s%s; a line of a config is 'key: value'",
                       p->context ? p->context : "", p->context ? ", " : "", problem);
}

// What was read before an error is complete but for the value that was being read.
static void drop_unfinished(Reader *r) {
  if (r->depth == 0) return;
  MuseYamlNode *root = r->open[0], **link = &root->first, *last = NULL;
  MuseYamlNode *unfinished = r->depth > 1 ? r->open[1] : NULL;
  for (; *link && *link != unfinished; link = &(*link)->next) last = *link;
  *link = NULL;
  root->last = last;
}

MuseStatus muse_yaml_parse(const char *name, const char *text, size_t length, MuseArena *arena, MuseYamlNode **out_root,
                           MuseDiag *diag) {
  Reader r = {.file = muse_arena_strdup(arena, name), .arena = arena, .diag = diag};
  *out_root = NULL;
  if (length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) text += 3, length -= 3; // byte order mark
  MUSE_TRY(check_characters(&r, text, length));
  if (!yaml_parser_initialize(&r.parser))
    return muse_error(diag, MUSE_ERR_FAILED, "out of memory while reading %s", name);
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, length);
  MuseStatus status = MUSE_OK;
  for (bool more = true; more && status == MUSE_OK;) {
    yaml_event_t event;
    if (!yaml_parser_parse(&r.parser, &event)) {
      status = syntax_error(&r);
      break;
    }
    status = handle_event(&r, &event);
    more = event.type != YAML_STREAM_END_EVENT;
    yaml_event_delete(&event);
  }
  yaml_parser_delete(&r.parser);
  if (status != MUSE_OK) drop_unfinished(&r);
  *out_root = r.root;
  return status;
}
