// libsentencepiece for C: the library has a C++ interface only. No exception leaves this file.
#include "runtime/tokenizer_sentencepiece_shim.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <cstdio>
#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

struct MuseSpModel {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

int tell(char *error, const char *sentence) {
  std::snprintf(error, MUSE_SP_ERROR_BYTES, "%s", sentence);
  return 0;
}

class Lines : public sentencepiece::SentenceIterator {
public:
  Lines(const char *(*next)(void *, size_t *), void *user) : next_(next), user_(user) { Next(); }
  bool done() const override { return done_; }
  void Next() override {
    size_t length = 0;
    const char *line = next_(user_, &length);
    done_ = line == nullptr;
    if (line) line_.assign(line, length);
  }
  const std::string &value() const override { return line_; }
  sentencepiece::util::Status status() const override { return sentencepiece::util::Status(); }

private:
  const char *(*next_)(void *, size_t *);
  void *user_;
  std::string line_;
  bool done_ = false;
};

} // namespace

extern "C" MuseSpModel *muse_sp_load(const char *bytes, size_t size, char error[MUSE_SP_ERROR_BYTES]) {
  MuseSpModel *model = nullptr;
  try {
    model = new MuseSpModel;
    const auto status = model->processor.LoadFromSerializedProto(absl::string_view(bytes, size));
    if (status.ok()) return model;
    tell(error, status.message());
  } catch (const std::exception &e) {
    tell(error, e.what());
  } catch (...) {
    tell(error, "the library could not read it");
  }
  delete model;
  return nullptr;
}

extern "C" void muse_sp_free(MuseSpModel *model) { delete model; }

extern "C" int muse_sp_eos(const MuseSpModel *model) { return model->processor.eos_id(); }

extern "C" int muse_sp_encode(const MuseSpModel *model, const char *text, size_t length,
                              void (*take)(void *user, const int *ids, size_t n), void *user,
                              char error[MUSE_SP_ERROR_BYTES]) {
  try {
    std::vector<int> ids;
    const auto status = model->processor.Encode(absl::string_view(text, length), &ids);
    if (!status.ok()) return tell(error, status.message());
    take(user, ids.data(), ids.size());
    return 1;
  } catch (const std::exception &e) {
    return tell(error, e.what());
  } catch (...) {
    return tell(error, "the library failed");
  }
}

extern "C" int muse_sp_train(const char *const *options, const char *(*next)(void *user, size_t *out_length),
                             void *next_user, void (*take)(void *user, const char *bytes, size_t n), void *user,
                             char error[MUSE_SP_ERROR_BYTES]) {
  try {
    std::unordered_map<std::string, std::string> values;
    for (; *options; options += 2) values[options[0]] = options[1];
    Lines lines(next, next_user);
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(values, &lines, &model);
    if (!status.ok()) return tell(error, status.message());
    take(user, model.data(), model.size());
    return 1;
  } catch (const std::exception &e) {
    return tell(error, e.what());
  } catch (...) {
    return tell(error, "the library failed");
  }
}
