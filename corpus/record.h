#ifndef MUSE_CORPUS_RECORD_H
#define MUSE_CORPUS_RECORD_H

#include "corpus/parquet.h"
#include "ir/base/arena.h"
#include "ir/base/diag.h"
#include "ir/base/str.h"

// How a record (a row of a table, a line of JSON) becomes text: one column, or a template such as
//   "{instruction}[\n\n{input}]\n\n{output}"
// {NAME} is the text of a column; what stands in [brackets] is left out when one of its columns is empty or null.
// {{ }} [[ ]] are the characters themselves.

enum { MUSE_RECORD_MAX_COLUMNS = 32, MUSE_RECORD_MAX_PARTS = 128 };

typedef struct MuseRecordPart {
  const char *literal; // NULL: a column
  size_t length;
  int column;          // index into columns
  int bracket;         // number of the brackets it stands in, 0: none
} MuseRecordPart;

typedef struct MuseRecordForm {
  const char *columns[MUSE_RECORD_MAX_COLUMNS]; // each name once
  bool required[MUSE_RECORD_MAX_COLUMNS];       // stands outside brackets
  int n_columns;
  MuseRecordPart parts[MUSE_RECORD_MAX_PARTS];
  int n_parts, n_brackets;
} MuseRecordForm;

void muse_record_form_column(const char *column, MuseArena *arena, MuseRecordForm *out_form);
// MUSE_ERR_INPUT with a sentence at `loc` for a template that is wrong.
MuseStatus muse_record_form_template(const char *text, MuseLoc loc, MuseArena *arena, MuseRecordForm *out_form,
                                     MuseDiag *diag);
// Appends the text of a record with these values of form->columns; nothing when all columns are empty.
void muse_record_append(const MuseRecordForm *form, const MuseSlice *values, MuseStr *out_text);

#endif
