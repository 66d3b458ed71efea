#ifndef MUSE_CORPUS_ENCODING_H
#define MUSE_CORPUS_ENCODING_H

#include "ir/base/diag.h"
#include "ir/base/str.h"

// Bytes to UTF-8 text.

// Valid UTF-8 (RFC 3629) without NUL; out_ascii (may be NULL): without a byte beyond 0x7f.
bool muse_text_is_utf8(const char *text, size_t length, bool *out_ascii);

// MUSE_ERR_INPUT for an encoding that this machine's iconv does not know. NULL is fine: UTF-8 alone.
MuseStatus muse_encoding_check(const char *encoding, MuseDiag *diag);
// Makes the bytes of a file UTF-8 text, in place. A byte order mark decides (UTF-8, UTF-16, UTF-32) and is taken away;
// then valid UTF-8 with more than ASCII in it stays as it is; then `encoding`, where it is given. False: it is no text.
bool muse_text_to_utf8(MuseStr *text, const char *encoding);
// Unicode's normalisation form NFKC, in place, of valid UTF-8: full-width letters become plain ones, half-width kana
// full-width ones, and so on.
void muse_text_nfkc(MuseStr *text);

#endif
