// muse-data tokenizer: what a tokenizer is, its ids of a text and back, and new ones from text.
#include "ir/base/hash.h"
#include "ir/base/io.h"
#include "runtime/data_commands.h"
#include "runtime/metrics.h"
#include "runtime/text_files.h"
#include "runtime/tokenizer_kinds.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINE = 4096 };

typedef struct Arguments {
  MuseTextList operands, endings;
  const char *output, *normalization;
  int64_t vocab_size, block;
  double coverage;
  uint64_t sample;
  bool json, force;
} Arguments;

// ---- show, encode, decode

static MuseStatus show(const MuseTokenizer *t, const Arguments *a, MuseDiag *diag) {
  if (a->operands.len > 2) return muse_error(diag, MUSE_ERR_INPUT, "tokenizer show takes one tokenizer");
  if (a->json) {
    MuseStr s = {0};
    muse_str_append(&s, "{\"name\":");
    muse_json_append_text(&s, muse_tokenizer_name(t), strlen(muse_tokenizer_name(t)));
    muse_str_appendf(&s, ",\"kind\":\"%s\",\"vocab_size\":%" PRId64 ",\"eos\":%d,\"hash\":\"%016" PRIx64 "\"}\n",
                     muse_tokenizer_kind(t), muse_tokenizer_vocab_size(t), muse_tokenizer_eos(t),
                     muse_tokenizer_hash(t));
    fputs(s.data, stdout);
    muse_str_free(&s);
    return MUSE_OK;
  }
  printf("%s: %s, vocabulary %" PRId64 ", hash %016" PRIx64 "\n", muse_tokenizer_name(t), muse_tokenizer_kind(t),
         muse_tokenizer_vocab_size(t), muse_tokenizer_hash(t));
  int32_t eos = muse_tokenizer_eos(t);
  if (eos >= 0) printf("id %d ends a text (eos_token_id of a configuration)\n", eos);
  else printf("it names no id that ends a text\n");
  return MUSE_OK;
}

static MuseStatus read_all(const char *path, MuseStr *out, MuseDiag *diag) {
  if (path) return muse_read_file(path, (uint64_t)1 << 30, out, diag);
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, stdin)) > 0;) muse_str_append_n(out, buffer, n);
  return ferror(stdin) ? muse_error(diag, MUSE_ERR_FAILED, "cannot read the input: %s", strerror(errno)) : MUSE_OK;
}

static MuseStatus encode_text(const MuseTokenizer *t, const Arguments *a, const MuseStr *text, MuseDiag *diag) {
  size_t step = a->block > 0 ? (size_t)a->block : text->len, at = 0;
  MuseTokenIds ids = {0};
  MuseStatus status = MUSE_OK;
  do {
    size_t n = text->len - at < step ? text->len - at : step;
    muse_vec_clear(&ids);
    status = muse_tokenizer_encode(t, muse_str_text(text) + at, n, &ids, diag);
    for (size_t i = 0; i < ids.len && status == MUSE_OK; i++) printf(i ? " %d" : "%d", ids.data[i]);
    if (status == MUSE_OK) putchar('\n');
    at += n;
  } while (at < text->len && status == MUSE_OK);
  muse_vec_free(&ids);
  return status;
}

static MuseStatus decode_text(const MuseTokenizer *t, const MuseStr *text, MuseDiag *diag) {
  MuseTokenIds ids = {0};
  const char *p = muse_str_text(text);
  MuseStatus status = MUSE_OK;
  for (;;) {
    p += strspn(p, " \t\r\n,[]");
    if (!*p) break;
    char *end;
    errno = 0;
    long id = strtol(p, &end, 10);
    if (end == p || errno || id < 0 || id >= muse_tokenizer_vocab_size(t)) {
      status = muse_error(diag, MUSE_ERR_INPUT, "'%.20s' is no id from 0 to %" PRId64, p,
                          muse_tokenizer_vocab_size(t) - 1);
      break;
    }
    muse_vec_push(&ids, (int32_t)id);
    p = end;
  }
  MuseStr out = {0};
  if (status == MUSE_OK) {
    muse_tokenizer_decode(t, ids.data, ids.len, &out);
    fwrite(muse_str_text(&out), 1, out.len, stdout);
  }
  muse_str_free(&out);
  muse_vec_free(&ids);
  return status;
}

static MuseStatus use(const Arguments *a, const char *verb, MuseDiag *diag) {
  MuseTokenizer *t;
  if (a->operands.len < 2) return muse_error(diag, MUSE_ERR_INPUT, "name a tokenizer: bytes, or the path of its file");
  MUSE_TRY(muse_tokenizer_open(a->operands.data[1], &t, diag));
  MuseStatus status = MUSE_OK;
  if (muse_str_eq(verb, "show")) status = show(t, a, diag);
  for (int i = 2; status == MUSE_OK && !muse_str_eq(verb, "show") && (i < a->operands.len || i == 2); i++) {
    MuseStr text = {0};
    status = read_all(i < a->operands.len ? a->operands.data[i] : NULL, &text, diag);
    if (status == MUSE_OK)
      status = muse_str_eq(verb, "encode") ? encode_text(t, a, &text, diag) : decode_text(t, &text, diag);
    muse_str_free(&text);
  }
  muse_tokenizer_close(t);
  return status;
}

// ---- train

typedef struct Line {
  uint64_t rank; // of the lines that were seen, those of the lowest ranks are kept
  uint32_t start, length;
} Line;

// A sample of lines that does not depend on how many there will be: a line stays when its rank is below the threshold,
// which is halved whenever too much text has gathered.
typedef struct Sample {
  MUSE_VEC(Line) lines;
  MuseStr text, open;      // open: a line that goes on in the next piece
  uint64_t threshold, limit, n_seen, n_bytes_seen;
  size_t next;             // for the trainer
} Sample;

static void halve(Sample *s) {
  s->threshold /= 2;
  size_t n = 0, at = 0;
  for (size_t i = 0; i < s->lines.len; i++) {
    Line line = s->lines.data[i];
    if (line.rank >= s->threshold) continue;
    memmove(s->text.data + at, s->text.data + line.start, line.length);
    line.start = (uint32_t)at;
    at += line.length;
    s->lines.data[n++] = line;
  }
  s->lines.len = n;
  s->text.len = at;
}

static void add_line(Sample *s, const char *text, size_t n) {
  if (n && text[n - 1] == '\r') n--;
  if (n == 0) return;
  // The count makes equal lines differ, so that common ones stay common.
  uint64_t rank = (muse_hash64(text, n) + ++s->n_seen * UINT64_C(0x9E3779B97F4A7C15)) * UINT64_C(0xD6E8FEB86659FD93);
  rank ^= rank >> 32;
  s->n_bytes_seen += n;
  if (rank >= s->threshold) return;
  muse_vec_push(&s->lines, ((Line){rank, (uint32_t)s->text.len, (uint32_t)n}));
  muse_str_append_n(&s->text, text, n);
  while (s->text.len > s->limit) halve(s);
}

static bool add_piece(void *user, const char *text, size_t n) {
  Sample *s = user;
  while (n > 0) {
    const char *end = memchr(text, '\n', n);
    size_t part = end ? (size_t)(end - text) : n;
    muse_str_append_n(&s->open, text, part);
    text += part + (end != NULL), n -= part + (end != NULL);
    // Text without lines, as Japanese may be, is cut between characters.
    while (s->open.len >= MAX_LINE) {
      size_t cut = MAX_LINE;
      while (cut > MAX_LINE - 4 && ((unsigned char)s->open.data[cut] & 0xC0) == 0x80) cut--;
      add_line(s, s->open.data, cut);
      memmove(s->open.data, s->open.data + cut, s->open.len - cut + 1);
      s->open.len -= cut;
    }
    if (end) add_line(s, muse_str_text(&s->open), s->open.len), muse_str_clear(&s->open);
  }
  return true;
}

static MuseStatus add_file(void *user, const char *path, MuseDiag *diag) {
  Sample *s = user;
  // A file that turns out not to be text must leave nothing in the sample.
  MuseTextVerdict verdict = muse_text_stream(path, UINT64_MAX, NULL, NULL);
  if (verdict == MUSE_TEXT_OK) verdict = muse_text_stream(path, UINT64_MAX, add_piece, s);
  else if (verdict != MUSE_TEXT_SHORTAGE) return MUSE_OK;
  if (verdict == MUSE_TEXT_SHORTAGE) return muse_io_error(diag, "read", path, errno);
  add_line(s, muse_str_text(&s->open), s->open.len);
  muse_str_clear(&s->open);
  return MUSE_OK;
}

static const char *next_line(void *user, size_t *out_length) {
  Sample *s = user;
  if (s->next == s->lines.len) return NULL;
  Line line = s->lines.data[s->next++];
  *out_length = line.length;
  return s->text.data + line.start;
}

static MuseStatus train(Arguments *a, MuseDiag *diag) {
  if (a->operands.len < 2) return muse_error(diag, MUSE_ERR_INPUT, "name the folders and files with text to train on");
  if (!a->output || !muse_str_ends_with(a->output, ".model"))
    return muse_error(diag, MUSE_ERR_INPUT, "say with -o NAME.model where the tokenizer goes");
  if (a->vocab_size < 300 || a->vocab_size > 1 << 20)
    return muse_error(diag, MUSE_ERR_INPUT, "--vocab-size takes a number from 300 to %d", 1 << 20);
  if (!(a->coverage > 0.9 && a->coverage <= 1))
    return muse_error(diag, MUSE_ERR_INPUT, "--coverage takes a share above 0.9, at most 1");
  if (!muse_str_eq(a->normalization, "identity") && !muse_str_eq(a->normalization, "nfkc"))
    return muse_error(diag, MUSE_ERR_INPUT, "--normalization takes identity or nfkc");
  if (a->sample < 1 << 16 || a->sample > UINT32_MAX)
    return muse_error(diag, MUSE_ERR_INPUT, "--sample takes a size from 64KiB to below 4GiB");
  FILE *there = a->force ? NULL : fopen(a->output, "rb");
  if (there) {
    fclose(there);
    return muse_error(diag, MUSE_ERR_INPUT,
                      "'%s' is there already, and token sets may have been made with it; give --force to replace it",
                      a->output);
  }
  MuseTextList inputs = {.data = a->operands.data + 1, .len = a->operands.len - 1};
  Sample s = {.threshold = UINT64_MAX, .limit = a->sample};
  MuseStatus status = muse_text_walk(&inputs, &a->endings, add_file, &s, diag);
  if (status == MUSE_OK && s.lines.len == 0)
    status = muse_error(diag, MUSE_ERR_INPUT, "no text was found; name other folders");
  if (status == MUSE_OK) status = muse_make_parent_dirs(a->output, diag); // before the long part, not after it
  if (status == MUSE_OK)
    fprintf(stderr, "training on %zu of %" PRIu64 " lines\n", s.lines.len, s.n_seen);
  MuseStr model = {0};
  MuseSentencePieceTraining t = {a->vocab_size, a->coverage, a->normalization, next_line, &s};
  MuseTokenizer *made = NULL;
  if (status == MUSE_OK) status = muse_sentencepiece_train(&t, &model, diag);
  if (status == MUSE_OK) status = muse_tokenizer_read(a->output, model.data, model.len, &made, diag);
  if (status == MUSE_OK) status = muse_write_file_atomic(a->output, model.data, model.len, diag);
  if (status == MUSE_OK)
    printf("%s: %s, vocabulary %" PRId64 ", id %d ends a text, hash %016" PRIx64 "\n", a->output,
           muse_tokenizer_kind(made), muse_tokenizer_vocab_size(made), muse_tokenizer_eos(made),
           muse_tokenizer_hash(made));
  muse_tokenizer_close(made);
  muse_str_free(&model);
  muse_str_free(&s.text);
  muse_str_free(&s.open);
  muse_vec_free(&s.lines);
  return status;
}

// ---- the command

static const Arguments defaults = {
    .normalization = "identity", .vocab_size = 16000, .coverage = 0.9995, .sample = (uint64_t)64 << 20};

// An option of another verb would be passed over in silence.
static MuseStatus check_options(const Arguments *a, const char *verb, MuseDiag *diag) {
  const struct { const char *name, *verb; bool given; } options[] = {
      {"output", "train", a->output != NULL},
      {"vocab-size", "train", a->vocab_size != defaults.vocab_size},
      {"normalization", "train", !muse_str_eq(a->normalization, defaults.normalization)},
      {"coverage", "train", a->coverage < defaults.coverage || a->coverage > defaults.coverage},
      {"sample", "train", a->sample != defaults.sample},
      {"ending", "train", a->endings.len > 0},
      {"force", "train", a->force},
      {"block", "encode", a->block != 0},
      {"json", "show", a->json},
  };
  for (size_t i = 0; i < sizeof options / sizeof *options; i++)
    if (options[i].given && !muse_str_eq(options[i].verb, verb))
      return muse_error(diag, MUSE_ERR_INPUT, "--%s is for muse-data tokenizer %s; leave it out of %s", options[i].name,
                        options[i].verb, verb);
  return MUSE_OK;
}

MuseStatus muse_data_tokenizer(int argc, char **argv, MuseDiag *diag) {
  Arguments a = defaults;
  bool help = false;
  const MuseOption table[] = {
      {"output", 'o', MUSE_OPT_TEXT, "NAME.model", "train: where the tokenizer goes.", &a.output},
      {"vocab-size", 0, MUSE_OPT_INT, "N", "train: number of ids (16000).", &a.vocab_size},
      {"normalization", 0, MUSE_OPT_TEXT, "FORM",
       "train: identity keeps every text as it is, nfkc unifies wide and narrow characters (identity).",
       &a.normalization},
      {"coverage", 0, MUSE_OPT_REAL, "SHARE",
       "train: characters that make up this share of the text get ids, the rest is spelt in bytes (0.9995).",
       &a.coverage},
      {"sample", 0, MUSE_OPT_BYTES, "SIZE", "train: learn from at most this much text, chosen from all (64 MiB).",
       &a.sample},
      {"ending", 'e', MUSE_OPT_LIST, "END", "train: takes only names that end like this; may be repeated.", &a.endings},
      {"force", 'f', MUSE_OPT_FLAG, NULL, "train: replaces the file.", &a.force},
      {"block", 0, MUSE_OPT_INT, "N", "encode: takes each N bytes as a text of its own.", &a.block},
      {"json", 0, MUSE_OPT_FLAG, NULL, "show: prints JSON.", &a.json},
      {NULL},
  };
  MuseStatus status = muse_options_parse(argc, argv, table, &a.operands, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-data tokenizer [options] show|encode|decode|train ...",
                      "show TOKENIZER: says what it is. encode TOKENIZER [FILE...]: ids of texts. decode TOKENIZER "
                      "[FILE...]: text of ids. train FOLDER|FILE... -o NAME.model: makes a SentencePiece BPE with byte "
                      "fallback.", stdout);
  } else if (status == MUSE_OK) {
    const char *verb = a.operands.len ? a.operands.data[0] : "";
    static const char *const verbs[] = {"show", "encode", "decode", "train"};
    bool known = false;
    for (int i = 0; i < 4; i++) known = known || muse_str_eq(verb, verbs[i]);
    if (!known) status = muse_error(diag, MUSE_ERR_INPUT, "say what to do: show, encode, decode or train");
    else if (a.block < 0) status = muse_error(diag, MUSE_ERR_INPUT, "--block takes a number from 0 on");
    else if ((status = check_options(&a, verb, diag)) == MUSE_OK)
      status = muse_str_eq(verb, "train") ? train(&a, diag) : use(&a, verb, diag);
  }
  muse_text_list_free(&a.operands);
  muse_text_list_free(&a.endings);
  return status;
}
