// CUDA C to C++ (see the header): a walk over tokens that copies everything but four constructs.
#include "tests/emulator/rewrite.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GLOBALS = 8, MAX_OPERANDS = 320, MAX_NAME = 128 };

typedef struct Rewriter {
  const char *at;
  MuseStr *out, *problem, kernels;
  int depth, n_shared, n_globals;
  char global[MAX_GLOBALS][MAX_NAME], global_type[MAX_GLOBALS][MAX_NAME]; // dynamic shared memory of the file
  bool failed;
} Rewriter;

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

static void fail(Rewriter *r, const char *what, const char *at) {
  if (r->failed) return;
  r->failed = true;
  muse_str_appendf(r->problem, "error: the software GPU cannot read this: %s: %.200s", what, at);
}

static const char *skip_space(const char *p) {
  while (isspace((unsigned char)*p)) p++;
  return p;
}

// Behind a string or character literal that begins at p.
static const char *skip_literal(const char *p) {
  const char quote = *p++;
  while (*p && *p != quote) p += *p == '\\' && p[1] ? 2 : 1;
  return *p ? p + 1 : p;
}

// Behind the bracket that closes the one at p.
static const char *skip_brackets(const char *p) {
  int depth = 0;
  do {
    if (*p == '"' || *p == '\'') {
      p = skip_literal(p);
      continue;
    }
    if (strchr("([{", *p)) depth++;
    if (strchr(")]}", *p)) depth--;
    p++;
  } while (depth > 0 && *p);
  return p;
}

static const char *skip_word(const char *p) {
  while (is_word(*p)) p++;
  return p;
}

static bool word_is(const char *p, const char *word) {
  const size_t n = strlen(word);
  return strncmp(p, word, n) == 0 && !is_word(p[n]);
}

// Line breaks between two places, so that lines keep their numbers.
static void keep_lines(Rewriter *r, const char *from, const char *to) {
  for (; from < to; from++)
    if (*from == '\n') muse_str_append(r->out, "\n");
}

static void copy_name(char (*out)[MAX_NAME], const char *from, const char *to) {
  while (to > from && isspace((unsigned char)to[-1])) to--;
  const size_t n = (size_t)(to - from) < MAX_NAME ? (size_t)(to - from) : MAX_NAME - 1;
  memcpy(*out, from, n);
  (*out)[n] = 0;
}

// ---- shared memory ----

// "alignas(16) float name[4], other[2];": p behind __shared__. The end of the type is where the name before the first
// '[', ',' or ';' begins.
static const char *split_declaration(const char *p, const char **out_alignment, const char **out_name) {
  *out_alignment = NULL;
  for (;; p = skip_space(p)) {
    if (word_is(p, "alignas")) *out_alignment = skip_space(p + 7);
    else if (word_is(p, "__attribute__")) *out_alignment = strchr(skip_space(p + 13) + 2, '('); // ((aligned(n)))
    else break;
    p = skip_brackets(strchr(p, '('));
  }
  const char *end = p;
  while (*end && !strchr("[,;", *end)) end = *end == '(' ? skip_brackets(end) : end + 1;
  const char *name = end;
  while (name > p && isspace((unsigned char)name[-1])) name--;
  while (name > p && is_word(name[-1])) name--;
  *out_name = name;
  return p;
}

static const char *rewrite_shared(Rewriter *r, const char *p) {
  const char *begin = p, *alignment, *name;
  const char *type = split_declaration(skip_space(p), &alignment, &name);
  const int type_length = (int)(name - type);
  p = name;
  for (;;) {
    const char *name_end = skip_word(p), *dims = name_end, *end = dims;
    while (*end == '[') end = skip_space(skip_brackets(end));
    const int k = r->n_shared++;
    muse_str_appendf(r->out, "typedef %.*s emu_type_%d %.*s; static char emu_key_%d; ", type_length, type, k,
                     (int)(end - dims), dims, k);
    muse_str_appendf(r->out, "emu_type_%d &%.*s = *(emu_type_%d *)", k, (int)(name_end - p), p, k);
    muse_str_appendf(r->out, "emu_host->static_shared(&emu_key_%d, sizeof(emu_type_%d), ", k, k);
    if (alignment)
      muse_str_appendf(r->out, "%.*s);", (int)(skip_brackets(alignment) - alignment), alignment);
    else
      muse_str_appendf(r->out, "alignof(emu_type_%d));", k);
    if (*end == ';') {
      keep_lines(r, begin, end);
      return end + 1;
    }
    if (*end != ',') {
      fail(r, "a declaration of shared memory", begin);
      return end;
    }
    p = skip_space(end + 1);
  }
}

// "extern __shared__ T name[];"; p behind __shared__
static const char *rewrite_dynamic(Rewriter *r, const char *p) {
  const char *begin = p, *alignment, *name, *type = split_declaration(skip_space(p), &alignment, &name);
  const char *name_end = skip_word(name), *end = strchr(name_end, ';');
  const int type_length = (int)(name - type), name_length = (int)(name_end - name);
  if (!end) {
    fail(r, "a declaration of shared memory", begin);
    return p + strlen(p);
  }
  if (r->depth > 0) {
    muse_str_appendf(r->out, "%.*s *const %.*s = (%.*s *)emu_dynamic_shared();", type_length, type, name_length, name,
                     type_length, type);
  } else if (r->n_globals < MAX_GLOBALS) {
    copy_name(&r->global[r->n_globals], name, name_end);
    copy_name(&r->global_type[r->n_globals], type, name);
    r->n_globals++;
  } else {
    fail(r, "too much dynamic shared memory", begin);
  }
  keep_lines(r, begin, end);
  return end + 1;
}

// ---- kernels ----

// p behind __global__: "void __launch_bounds__(128, 1) name(" is copied without the bounds.
static const char *rewrite_kernel(Rewriter *r, const char *p) {
  int cluster = 1, threads = 1024;
  for (;;) {
    const char *word = skip_space(p), *end = skip_word(word), *next = skip_space(end);
    keep_lines(r, p, word);
    if (end == word) {
      fail(r, "a kernel", p);
      return p;
    }
    p = end;
    if (word_is(word, "__launch_bounds__") || word_is(word, "__cluster_dims__")) {
      if (word[2] == 'l') threads = atoi(next + 1);
      else cluster = atoi(next + 1);
      p = skip_brackets(next);
      continue;
    }
    muse_str_appendf(r->out, "%.*s ", (int)(end - word), word);
    if (*next != '(') continue;
    muse_str_appendf(&r->kernels, "EMU_KERNEL(%.*s, %d, %d)\n", (int)(end - word), word, cluster, threads);
    return p;
  }
}

// ---- asm ----

typedef struct Operand {
  const char *text;
  int length;
} Operand;

// The text of neighbouring literals, with \n and \t turned into what they mean; behind them.
static const char *take_literals(const char *p, MuseStr *out) {
  while (*p == '"') {
    for (p++; *p && *p != '"'; p++) {
      char c = *p;
      if (c == '\\' && p[1]) c = *++p == 'n' ? '\n' : *p == 't' ? ' ' : *p;
      muse_str_append_n(out, &c, 1);
    }
    p = skip_space(p + 1);
  }
  return p;
}

static const char *find_label(const char *p) { // "name:" at p, but not "name::"
  const char *end = skip_word(p);
  return end > p && *end == ':' && end[1] != ':' ? end : NULL;
}

// Operands of an instruction, separated by commas; brackets of addresses and vectors go.
static void write_operands(Rewriter *r, const char *p, const char *end, const Operand *operand, int n_operands) {
  bool first = true;
  while (p < end) {
    if (isspace((unsigned char)*p) || strchr(",[]{}", *p)) {
      p++;
      continue;
    }
    if (!first) muse_str_append(r->out, ", ");
    first = false;
    if (p[0] == '%' && p[1] == '%') { // a special register
      muse_str_append(r->out, "emu_special_");
      for (p += 2; p < end && (is_word(*p) || *p == '.'); p++) muse_str_appendf(r->out, "%c", *p == '.' ? '_' : *p);
      muse_str_append(r->out, "()");
    } else if (*p == '%') {
      char *behind;
      const long n = strtol(p + 1, &behind, 10);
      if (behind == p + 1 || n >= n_operands) return fail(r, "an operand of an asm statement", p);
      muse_str_appendf(r->out, "(%.*s)", operand[n].length, operand[n].text);
      p = behind;
    } else if (p[0] == '_' && !is_word(p[1])) {
      muse_str_append(r->out, "emu_sink");
      p++;
    } else if (is_word(*p) || *p == '-') {
      const char *behind = skip_word(p + 1);
      muse_str_append_n(r->out, p, (size_t)(behind - p));
      p = behind;
    } else {
      return fail(r, "an operand of an asm statement", p);
    }
  }
}

static void write_registers(Rewriter *r, const char *p) { // ".reg .b32 a, b"
  p = skip_space(p + 4);
  const char *integer = strncmp(p + 2, "64", 2) == 0 ? "unsigned long long" : "unsigned";
  const char *type = strncmp(p, ".pred", 5) == 0 ? "bool" : integer;
  muse_str_appendf(r->out, "%s %s; ", type, skip_space(skip_word(p + 1)));
}

// One instruction, without its semicolon.
static void write_instruction(Rewriter *r, const char *p, const Operand *operand, int n_operands) {
  const char *end = p + strlen(p);
  if (*p == '@') {
    const bool no = p[1] == '!';
    const char *name = p + 1 + no, *behind = skip_word(name);
    muse_str_appendf(r->out, "if (%s%.*s) ", no ? "!" : "", (int)(behind - name), name);
    p = skip_space(behind);
  }
  if (word_is(p, "bra")) {
    muse_str_appendf(r->out, "goto %s; ", skip_space(p + 3));
    return;
  }
  muse_str_append(r->out, "ptx_");
  for (; p < end && !isspace((unsigned char)*p); p++) muse_str_appendf(r->out, "%c", is_word(*p) ? *p : '_');
  muse_str_append(r->out, "(");
  write_operands(r, p, end, operand, n_operands);
  muse_str_append(r->out, "); ");
}

static void write_statement(Rewriter *r, char *text, const Operand *operand, int n_operands) {
  muse_str_append(r->out, "do { ");
  for (const char *p = text; *p; p++) // labels are known in this statement only
    if ((p == text || !is_word(p[-1])) && is_word(*p) && find_label(p) && (p == text || p[-1] != ':'))
      muse_str_appendf(r->out, "__label__ %.*s; ", (int)(find_label(p) - p), p);
  for (char *p = text; *(p = (char *)skip_space(p));) {
    if (*p == '{' || *p == '}') {
      muse_str_appendf(r->out, "%c ", *p++);
      continue;
    }
    const char *label = find_label(p);
    if (label) {
      muse_str_appendf(r->out, "%.*s:; ", (int)(label - p), p);
      p += label - p + 1;
      continue;
    }
    char *end = p + strcspn(p, ";"), last = *end;
    *end = 0;
    for (char *q = end; q > p && isspace((unsigned char)q[-1]);) *--q = 0;
    if (strncmp(p, ".reg", 4) == 0) write_registers(r, p);
    else write_instruction(r, p, operand, n_operands);
    p = end + (last != 0);
  }
  muse_str_append(r->out, "} while (0)");
}

// p behind "asm"
static const char *rewrite_asm(Rewriter *r, const char *p) {
  const char *begin = p;
  MuseStr text = {0};
  Operand operand[MAX_OPERANDS];
  int n = 0, section = 0;
  p = skip_space(p);
  if (word_is(p, "volatile")) p = skip_space(p + 8);
  if (*p != '(') {
    fail(r, "an asm statement", begin);
    return p;
  }
  p = take_literals(skip_space(p + 1), &text);
  while (*p && *p != ')') {
    if (*p == ':') {
      section++;
      p = skip_space(p + 1);
    } else if (*p == ',') {
      p = skip_space(p + 1);
    } else if (*p == '"') { // "=r"(x), or a clobber
      p = skip_space(skip_literal(p));
      if (section > 2) continue;
      const char *behind = skip_brackets(p);
      if (n < MAX_OPERANDS) operand[n++] = (Operand){p + 1, (int)(behind - p) - 2};
      p = skip_space(behind);
    } else {
      fail(r, "an asm statement", begin);
      break;
    }
  }
  if (text.len > 0 && !r->failed) write_statement(r, text.data, operand, n);
  else muse_str_append(r->out, "(void)0");
  muse_str_free(&text);
  keep_lines(r, begin, p);
  return *p ? p + 1 : p;
}

// ---- the walk ----

static const char *rewrite_word(Rewriter *r, const char *p) {
  const char *end = skip_word(p);
  if (word_is(p, "asm") || word_is(p, "__asm__")) return rewrite_asm(r, end);
  if (word_is(p, "__global__")) return rewrite_kernel(r, end);
  if (word_is(p, "__shared__")) return rewrite_shared(r, end);
  if (word_is(p, "extern") && word_is(skip_space(end), "__shared__")) return rewrite_dynamic(r, skip_space(end) + 10);
  for (int g = 0; g < r->n_globals; g++) {
    if (!word_is(p, r->global[g])) continue;
    muse_str_appendf(r->out, "((%s *)emu_dynamic_shared())", r->global_type[g]);
    return end;
  }
  muse_str_append_n(r->out, p, (size_t)(end - p));
  return end;
}

// A line that begins with '#': markers of lines stay, what is said of unrolling goes (it costs compile time only).
static const char *rewrite_directive(Rewriter *r, const char *p) {
  const char *end = p + strcspn(p, "\n");
  if (strncmp(skip_space(p + 1), "pragma", 6) != 0) muse_str_append_n(r->out, p, (size_t)(end - p));
  return end;
}

bool emu_rewrite(const char *source, MuseStr *out, MuseStr *out_problem) {
  Rewriter writer = {.at = source, .out = out, .problem = out_problem}, *r = &writer;
  const char *p = source;
  bool line_begins = true;
  while (*p && !r->failed) {
    if (line_begins && *p == '#') {
      p = rewrite_directive(r, p);
      continue;
    }
    if (*p == '\n') line_begins = true;
    else if (!isspace((unsigned char)*p)) line_begins = false;
    if (*p == '"' || *p == '\'') {
      const char *end = skip_literal(p);
      muse_str_append_n(out, p, (size_t)(end - p));
      p = end;
    } else if (isdigit((unsigned char)*p)) { // 0x1p-24f is no word, 1'000 no literal
      const char *end = p;
      while (is_word(*end) || *end == '.' || *end == '\'') end++;
      muse_str_append_n(out, p, (size_t)(end - p));
      p = end;
    } else if (is_word(*p)) {
      p = rewrite_word(r, p);
    } else {
      r->depth += (*p == '{') - (*p == '}');
      muse_str_append_n(out, p++, 1);
    }
  }
  muse_str_append(out, "\n");
  muse_str_append(out, muse_str_text(&r->kernels));
  muse_str_free(&r->kernels);
  return !r->failed;
}
