// Columns and templates: from a record to its text.
#include "corpus/record.h"

#include <string.h>

void muse_record_form_column(const char *column, MuseArena *arena, MuseRecordForm *out_form) {
  *out_form = (MuseRecordForm){.n_columns = 1, .n_parts = 1};
  out_form->columns[0] = muse_arena_strdup(arena, column);
  out_form->required[0] = true;
}

typedef struct TemplateReader {
  const char *at;
  MuseLoc loc;
  MuseArena *arena;
  MuseRecordForm *form;
  MuseStr literal;
  int bracket; // that is open, 0: none
  MuseDiag *diag;
} TemplateReader;

static MuseStatus add_part(TemplateReader *r, MuseRecordPart part) {
  if (r->form->n_parts == MUSE_RECORD_MAX_PARTS)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc, "a template has at most %d parts", MUSE_RECORD_MAX_PARTS);
  part.bracket = r->bracket;
  r->form->parts[r->form->n_parts++] = part;
  return MUSE_OK;
}

static MuseStatus end_literal(TemplateReader *r) {
  if (r->literal.len == 0) return MUSE_OK;
  MuseRecordPart part = {muse_arena_strndup(r->arena, r->literal.data, r->literal.len), r->literal.len, -1, 0};
  muse_str_clear(&r->literal);
  return add_part(r, part);
}

static MuseStatus read_column(TemplateReader *r) {
  size_t n = strcspn(++r->at, "{}");
  MuseRecordForm *form = r->form;
  if (r->at[n] != '}')
    return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc,
                         "a '{' is never closed in the template; write {COLUMN}, or {{");
  if (n == 0) return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc, "'{}' names no column; write {COLUMN}");
  const char *name = muse_arena_strndup(r->arena, r->at, n);
  int k = 0;
  while (k < form->n_columns && !muse_str_eq(form->columns[k], name)) k++;
  if (k == MUSE_RECORD_MAX_COLUMNS)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc, "a template names at most %d columns",
                         MUSE_RECORD_MAX_COLUMNS);
  if (k == form->n_columns) form->columns[form->n_columns++] = name;
  form->required[k] |= r->bracket == 0;
  r->at += n + 1;
  return add_part(r, (MuseRecordPart){NULL, 0, k, 0});
}

static MuseStatus read_template(TemplateReader *r) {
  while (*r->at) {
    char c = *r->at;
    if (strchr("{}[]", c) && r->at[1] == c) {
      muse_str_append_n(&r->literal, r->at, 1);
      r->at += 2;
    } else if (c == '{') {
      MUSE_TRY(end_literal(r));
      MUSE_TRY(read_column(r));
    } else if (c == '[' || c == ']') {
      if ((c == '[') == (r->bracket != 0))
        return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc, c == '[' ? "brackets inside brackets in the template" :
                                                                         "a ']' without '[' in the template; write ]]");
      MUSE_TRY(end_literal(r));
      r->bracket = c == '[' ? ++r->form->n_brackets : 0;
      r->at++;
    } else if (c == '}') {
      return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc, "a '}' without '{' in the template; write }}");
    } else {
      muse_str_append_n(&r->literal, r->at++, 1);
    }
  }
  if (r->bracket) return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc, "a '[' is never closed in the template");
  MUSE_TRY(end_literal(r));
  if (r->form->n_columns == 0)
    return muse_error_at(r->diag, MUSE_ERR_INPUT, r->loc,
                         "the template names no column; write {COLUMN} where its text goes");
  return MUSE_OK;
}

MuseStatus muse_record_form_template(const char *text, MuseLoc loc, MuseArena *arena, MuseRecordForm *out_form,
                                     MuseDiag *diag) {
  *out_form = (MuseRecordForm){0};
  TemplateReader r = {.at = text, .loc = loc, .arena = arena, .form = out_form, .diag = diag};
  MuseStatus status = read_template(&r);
  muse_str_free(&r.literal);
  return status;
}

void muse_record_append(const MuseRecordForm *form, const MuseSlice *values, MuseStr *out_text) {
  bool left_out[MUSE_RECORD_MAX_PARTS + 1] = {0}, all_empty = true;
  for (int i = 0; i < form->n_columns; i++) all_empty &= values[i].length == 0;
  if (all_empty) return;
  for (int i = 0; i < form->n_parts; i++) {
    const MuseRecordPart *p = &form->parts[i];
    if (!p->literal && values[p->column].length == 0) left_out[p->bracket] = true;
  }
  left_out[0] = false;
  for (int i = 0; i < form->n_parts; i++) {
    const MuseRecordPart *p = &form->parts[i];
    if (left_out[p->bracket]) continue;
    if (p->literal) muse_str_append_n(out_text, p->literal, p->length);
    else if (values[p->column].length) muse_str_append_n(out_text, values[p->column].text, values[p->column].length);
  }
}
