// libFuzzer target: any text is parsed; what parses is verified and printed; the print must parse again and print the
// same.
#include "ir/base/status.h"
#include "ir/text.h"
#include "ops/ops.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  MuseDiag *diag = muse_diag_create();
  MuseModule *module = NULL, *again = NULL, *copy = NULL;
  if (muse_module_parse("fuzz", (const char *)data, size, &module, diag) == MUSE_OK) {
    MuseStr first = {0}, second = {0}, third = {0};
    muse_ops_verify(module, diag);
    muse_module_print(module, &first);
    MuseStatus status = muse_module_parse("again", muse_str_text(&first), first.len, &again, diag);
    MUSE_ASSERT(status == MUSE_OK);
    muse_module_print(again, &second);
    MUSE_ASSERT(muse_str_eq(muse_str_text(&first), muse_str_text(&second)));
    copy = muse_module_clone(again);
    muse_module_print(copy, &third);
    MUSE_ASSERT(muse_str_eq(muse_str_text(&first), muse_str_text(&third)));
    muse_str_free(&first);
    muse_str_free(&second);
    muse_str_free(&third);
  } else {
    MUSE_ASSERT(muse_diag_count(diag, MUSE_ERROR) == 1);
  }
  muse_module_destroy(module);
  muse_module_destroy(again);
  muse_module_destroy(copy);
  muse_diag_destroy(diag);
  return 0;
}
