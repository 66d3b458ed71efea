#ifndef MUSE_IR_LEX_H
#define MUSE_IR_LEX_H

#include "ir/base/arena.h"
#include "ir/base/diag.h"

#include <stdbool.h>
#include <stdint.h>

// Tokens of IR text. White space and // comments separate them; only `first_on_line` of them is kept.
typedef enum MuseTokenKind {
  MUSE_TOKEN_END,
  MUSE_TOKEN_WORD,   // add f32 embed.weight: a letter or '_', then letters, digits, '_', '.', '-'
  MUSE_TOKEN_AT,     // @name, @"any text": text holds the name
  MUSE_TOKEN_VALUE,  // %12: integer holds the number
  MUSE_TOKEN_INT,
  MUSE_TOKEN_REAL,   // with '.' or exponent, or -inf, -nan (inf and nan are words)
  MUSE_TOKEN_STRING, // text holds the unescaped text
  MUSE_TOKEN_PUNCT,  // one of { } [ ] ( ) , : = ^
  MUSE_TOKEN_ARROW,  // ->
  MUSE_TOKEN_BAD,    // message says what is wrong
} MuseTokenKind;

typedef struct MuseToken {
  MuseTokenKind kind;
  char punct;
  bool first_on_line;
  int line, col;
  const char *begin; // in the source text
  size_t length;     // of the source text
  const char *text;  // AT, STRING: in the arena; WORD: begin
  size_t text_length;
  int64_t integer;
  double real;
  const char *message;
} MuseToken;

typedef struct MuseLexer {
  const char *at, *end;
  const char *line_begin;
  int line;
  bool fresh_line;
  MuseArena *arena;
} MuseLexer;

void muse_lexer_init(MuseLexer *lexer, const char *text, size_t length, MuseArena *arena);
void muse_lexer_next(MuseLexer *lexer, MuseToken *out_token);

// Whether the text is a WORD, so that a name needs no quotes. After @ a name may start with any of the letters of a
// word.
bool muse_lex_is_word(const char *text);
bool muse_lex_is_name(const char *text);

#endif
