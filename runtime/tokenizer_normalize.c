// Unicode normalisation forms through utf8proc.
#include "runtime/tokenizer_bpe.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static bool is_ascii(const char *text, size_t length) {
  size_t i = 0;
  uint64_t word;
  for (; i + 8 <= length; i += 8) {
    memcpy(&word, text + i, 8);
    if (word & UINT64_C(0x8080808080808080)) return false;
  }
  for (; i < length; i++)
    if (text[i] & 0x80) return false;
  return true;
}

// ASCII never changes and never combines with what stands before it.
size_t muse_text_normal_cut(const char *text, size_t length) {
  while (length > 0 && (text[length - 1] & 0x80)) length--;
  return length ? length - 1 : 0; // the last character may take a combining mark that is yet to come
}

// Text is normalised from one ASCII character to the next: runs of ASCII are copied as they are.
void muse_text_normalize(const char *text, size_t length, MuseForm form, MuseStr *out) {
  static const utf8proc_option_t options[] = {
      [MUSE_FORM_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
      [MUSE_FORM_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
      [MUSE_FORM_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
      [MUSE_FORM_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
  };
  if (is_ascii(text, length)) {
    muse_str_append_n(out, text, length);
    return;
  }
  for (size_t done = 0; done < length;) {
    // pieces that can be normalised apart, so that memory does not grow with the text
    size_t n = length - done, most = 65536;
    if (n > most) {
      n = muse_text_normal_cut(text + done, most);
      if (n == 0) n = length - done;
    }
    utf8proc_uint8_t *result = NULL;
    utf8proc_ssize_t written =
        utf8proc_map((const utf8proc_uint8_t *)text + done, (utf8proc_ssize_t)n, &result, options[form]);
    // The text is valid UTF-8, so that only memory can fail.
    if (written < 0) muse_out_of_memory(n * 8);
    muse_str_append_n(out, (const char *)result, (size_t)written);
    free(result);
    done += n;
  }
}
