// muse-data tokenize: a ring of files. The main thread walks the folders, hands files to the workers and takes the
// results back in the same order, so the output is the same for any number of threads and memory stays bounded:
//   walk -> [slot][slot][slot]... -> workers read and tokenize -> the oldest slot is written, then used again
// Now and then, what is written goes to the disk for sure and the journal says how far that is. A later process walks
// again, passes over what the journal counts, as long as it is what it was then, and goes on behind it.
#include "corpus/documents.h"
#include "ir/base/hash.h"
#include "ir/base/io.h"
#include "runtime/data_commands.h"
#include "runtime/metrics.h"
#include "runtime/text_files.h"
#include "runtime/tokenize_journal.h"
#include "runtime/tokenizer.h"
#include "runtime/tokens.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS_PER_THREAD = 4, MAX_THREADS = 256 };
#define SLOT_BYTES (1u << 20)          // longer texts are streamed by the main thread, without a slot
#define MAX_RECORD (16u << 20)         // text of a line of JSON
#define MAX_KNOWN_DOCUMENTS (1u << 21) // of the duplicate check: 64 MiB

typedef enum SlotState { SLOT_FREE, SLOT_QUEUED, SLOT_DONE } SlotState;

// How far the walk has come; the fields of a MuseTokenizeProgress.
typedef struct Position {
  uint64_t files, records;
  MuseHash inputs;
} Position;

typedef struct Slot {
  SlotState state;
  char *path;        // of a text file, or
  MuseStr text;      // a document of a JSONL file, or neither: a record without one
  Position position; // when the slot is written
  MuseTextVerdict verdict;
  MuseTokenIds ids;
  MuseHash hash;     // of the text
  uint64_t bytes;
  MuseStatus status; // of encoding, with its sentence in diag
  MuseDiag *diag;
} Slot;

typedef struct Job {
  const MuseTokenizeOptions *options;
  MuseTokenizer *tokenizer;
  MuseTokensWriter *writer;
  // The ring. Slot i % n_slots holds file i; written <= taken <= queued.
  Slot *slots;
  uint64_t n_slots, queued, taken, written;
  bool closing;
  pthread_mutex_t mutex;
  pthread_cond_t work, result;
  // The rest is the main thread's alone.
  Position walked;
  uint64_t to_pass;              // files that an earlier process has begun, while the walk passes over them
  bool changed;                  // they are others now
  MuseSeen seen;
  MuseTokenizeProgress progress; // with all that is written
  MuseTokenizeProgress whole;    // as it was after the last whole slot
  bool full;                     // max_tokens reached
  bool write_failed;             // what is written may not be all that the journal would say
  MuseTokenizeJournal *journal;
  double last_shown, last_saved;
} Job;

// ---- workers

static void tokenize_slot(const Job *job, Slot *slot) {
  MuseStr text = slot->text;
  slot->text = (MuseStr){0};
  slot->verdict = slot->path ? muse_text_read(slot->path, SLOT_BYTES, &text) : MUSE_TEXT_OK;
  if (slot->verdict == MUSE_TEXT_SHORTAGE) slot->status = muse_io_error(slot->diag, "read", slot->path, errno);
  slot->bytes = text.len;
  if (slot->verdict == MUSE_TEXT_OK) {
    slot->hash = muse_hash128(text.data, text.len);
    slot->status = muse_tokenizer_encode(job->tokenizer, text.data, text.len, &slot->ids, slot->diag);
  }
  muse_str_free(&text);
}

static void *work(void *argument) {
  Job *job = argument;
  pthread_mutex_lock(&job->mutex);
  for (;;) {
    while (job->taken == job->queued && !job->closing) pthread_cond_wait(&job->work, &job->mutex);
    if (job->taken == job->queued) break;
    Slot *slot = &job->slots[job->taken++ % job->n_slots];
    if (slot->state == SLOT_DONE) continue; // came so
    pthread_mutex_unlock(&job->mutex);
    tokenize_slot(job, slot);
    pthread_mutex_lock(&job->mutex);
    slot->state = SLOT_DONE;
    pthread_cond_signal(&job->result);
  }
  pthread_mutex_unlock(&job->mutex);
  return NULL;
}

// ---- main thread

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// True when the document has been seen; else it is remembered, as long as there is room.
static bool is_duplicate(Job *job, MuseHash hash) {
  if (job->options->keep_duplicates) return false;
  uint64_t before = job->seen.n;
  if (!muse_seen_add(&job->seen, hash)) return true;
  if (job->seen.n > before) muse_tokenize_journal_add_seen(job->journal, hash);
  return false;
}

static void check_full(Job *job) {
  int64_t limit = job->options->max_tokens;
  job->full = limit > 0 && job->progress.tokens.n_tokens >= limit;
}

static MuseStatus end_document(Job *job, uint64_t n_tokens, uint64_t n_bytes, MuseDiag *diag) {
  MUSE_TRY(muse_tokens_writer_end_document(job->writer, diag));
  job->progress.tokens.n_documents++;
  job->progress.tokens.n_tokens += (int64_t)n_tokens;
  job->progress.n_bytes += n_bytes;
  check_full(job);
  return MUSE_OK;
}

typedef struct Large {
  Job *job;
  MuseHasher *hasher;
  MuseEncoder *encoder;
  MuseTokenIds ids;
  uint64_t n_bytes, n_tokens;
  MuseStatus status;
  MuseDiag *diag;
} Large;

static bool hash_piece(void *user, const char *text, size_t n) {
  Large *large = user;
  muse_hasher_update(large->hasher, text, n);
  large->n_bytes += n;
  return !*large->job->options->stop;
}

static bool write_piece(Large *large, const char *text, size_t n, bool last) {
  muse_vec_clear(&large->ids);
  large->status = muse_encoder_feed(large->encoder, text, n, last, &large->ids, large->diag);
  if (large->status == MUSE_OK)
    large->status = muse_tokens_writer_append(large->job->writer, large->ids.data, (int64_t)large->ids.len,
                                              large->diag);
  large->n_tokens += large->ids.len;
  return large->status == MUSE_OK && !*large->job->options->stop;
}

static bool append_piece(void *user, const char *text, size_t n) { return write_piece(user, text, n, false); }

// The sentence of a failed encoding does not know the file.
static MuseStatus tell_file(const char *path, MuseStatus status, MuseDiag *diag) {
  return muse_error(diag, status, "'%s' cannot be tokenized", path);
}

// A text beyond a slot: once through to check it, once to write it, in pieces.
static MuseStatus write_large(Job *job, const char *path, MuseTextVerdict *out_verdict, MuseDiag *diag) {
  Large large = {.job = job, .hasher = muse_hasher_create(), .diag = diag};
  uint64_t limit = job->options->max_document, most = muse_tokenizer_max_text(job->tokenizer);
  if (most < limit) limit = most;
  *out_verdict = muse_text_stream(path, limit, hash_piece, &large);
  MuseHash hash = muse_hasher_finish(large.hasher);
  if (*out_verdict == MUSE_TEXT_STOPPED) return MUSE_ERR_STOPPED;
  if (*out_verdict == MUSE_TEXT_SHORTAGE) return muse_io_error(diag, "read", path, errno);
  if (*out_verdict != MUSE_TEXT_OK) return MUSE_OK;
  if (is_duplicate(job, hash)) {
    job->progress.n_duplicates++;
    return MUSE_OK;
  }
  large.encoder = muse_encoder_create(job->tokenizer);
  MuseTextVerdict second = muse_text_stream(path, limit, append_piece, &large);
  int code = errno;
  if (second == MUSE_TEXT_OK && !write_piece(&large, "", 0, true)) second = MUSE_TEXT_STOPPED;
  muse_encoder_destroy(large.encoder);
  muse_vec_free(&large.ids);
  if (large.status != MUSE_OK) return tell_file(path, large.status, diag);
  if (second == MUSE_TEXT_STOPPED) return MUSE_ERR_STOPPED; // by a signal: this document does not count
  if (second == MUSE_TEXT_SHORTAGE) {
    *out_verdict = second;
    return muse_io_error(diag, "read", path, code);
  }
  if (second != MUSE_TEXT_OK)
    return muse_error(diag, MUSE_ERR_FAILED, "'%s' changed while it was read; run again", path);
  return end_document(job, large.n_tokens, large.n_bytes, diag);
}

static MuseStatus write_slot(Job *job, Slot *slot, MuseDiag *diag) {
  job->progress.n_files++;
  if (slot->status != MUSE_OK) {
    muse_error(diag, slot->status, "%s", muse_diag_message(slot->diag, 0));
    if (slot->verdict == MUSE_TEXT_SHORTAGE) return slot->status;
    return tell_file(slot->path ? slot->path : "a line of a JSONL file", slot->status, diag);
  }
  if (slot->verdict == MUSE_TEXT_TOO_LARGE) {
    MUSE_TRY(write_large(job, slot->path, &slot->verdict, diag));
  } else if (slot->verdict == MUSE_TEXT_OK && is_duplicate(job, slot->hash)) {
    job->progress.n_duplicates++;
  } else if (slot->verdict == MUSE_TEXT_OK) {
    MUSE_TRY(muse_tokens_writer_append(job->writer, slot->ids.data, (int64_t)slot->ids.len, diag));
    MUSE_TRY(end_document(job, slot->ids.len, slot->bytes, diag));
  }
  job->progress.n_verdicts[slot->verdict]++;
  return MUSE_OK;
}

static void show_progress(Job *job) {
  if (job->options->quiet || !isatty(STDERR_FILENO)) return;
  double now = now_seconds();
  if (now - job->last_shown < 0.2) return;
  job->last_shown = now;
  MuseStr s = {0};
  muse_str_append_bytes(&s, job->progress.n_bytes);
  fprintf(stderr, "\r\033[K%llu documents, %s", (unsigned long long)job->progress.tokens.n_documents, s.data);
  fflush(stderr);
  muse_str_free(&s);
}

// Brings all that is whole to the disk, and into the journal.
static MuseStatus save(Job *job, MuseDiag *diag) {
  MUSE_TRY(muse_tokens_writer_mark(job->writer, &job->whole.tokens, diag));
  MUSE_TRY(muse_tokenize_journal_save(job->journal, &job->whole, diag));
  job->last_saved = now_seconds();
  return MUSE_OK;
}

// After a slot whose write succeeded.
static MuseStatus end_slot(Job *job, const Slot *slot, MuseDiag *diag) {
  job->progress.files = slot->position.files;
  job->progress.records = slot->position.records;
  job->progress.inputs = slot->position.inputs;
  job->progress.n_seen = job->seen.n;
  job->whole = job->progress;
  return now_seconds() - job->last_saved < job->options->save_seconds ? MUSE_OK : save(job, diag);
}

// Waits for the oldest slot, writes it and frees it.
static MuseStatus write_oldest(Job *job, MuseDiag *diag) {
  Slot *slot = &job->slots[job->written % job->n_slots];
  pthread_mutex_lock(&job->mutex);
  while (slot->state != SLOT_DONE) pthread_cond_wait(&job->result, &job->mutex);
  if (job->taken == job->written) job->taken++; // it came done, and no worker may find the next content of its place
  pthread_mutex_unlock(&job->mutex);
  MuseStatus status = *job->options->stop ? MUSE_ERR_STOPPED : MUSE_OK;
  if (status == MUSE_OK && !job->full) {
    status = write_slot(job, slot, diag);
    if (status == MUSE_OK) status = end_slot(job, slot, diag);
    job->write_failed = status != MUSE_OK && status != MUSE_ERR_STOPPED && slot->verdict != MUSE_TEXT_SHORTAGE;
  }
  free(slot->path);
  slot->path = NULL;
  muse_vec_clear(&slot->ids);
  slot->state = SLOT_FREE;
  job->written++;
  show_progress(job);
  return status;
}

// Queues a text file; or a document, whose text is moved from *io_text; or a record without one, for its verdict.
static MuseStatus queue_slot(Job *job, const char *path, MuseStr *io_text, MuseTextVerdict verdict, MuseDiag *diag) {
  if (*job->options->stop) return MUSE_ERR_STOPPED;
  if (job->queued - job->written == job->n_slots) MUSE_TRY(write_oldest(job, diag));
  if (job->full) return MUSE_ERR_NO_FIT; // ends the walk; the caller knows why
  pthread_mutex_lock(&job->mutex);
  Slot *slot = &job->slots[job->queued % job->n_slots];
  slot->path = path ? strdup(path) : NULL;
  if (io_text) slot->text = *io_text, *io_text = (MuseStr){0};
  slot->position = job->walked;
  slot->status = MUSE_OK;
  slot->verdict = verdict;
  slot->state = path || io_text ? SLOT_QUEUED : SLOT_DONE;
  job->queued++;
  pthread_cond_signal(&job->work);
  pthread_mutex_unlock(&job->mutex);
  return MUSE_OK;
}

// Every line of a JSONL file is a document: its "text". The first n_passed records have been written before.
static MuseStatus queue_records(Job *job, const char *path, uint64_t n_passed, MuseDiag *diag) {
  uint64_t limit = job->options->max_document < MAX_RECORD ? job->options->max_document : MAX_RECORD;
  if (muse_tokenizer_max_text(job->tokenizer) < limit) limit = muse_tokenizer_max_text(job->tokenizer);
  MuseRecordForm record = {
      .columns = {"text"}, .required = {true}, .n_columns = 1, .parts = {{NULL, 0, 0, 0}}, .n_parts = 1};
  MuseDocumentForm form = {&record, NULL, limit, job->options->stop};
  MuseDocuments *documents;
  MUSE_TRY(muse_documents_open(path, MUSE_FILE_JSONL, &form, &documents, diag));
  static const MuseTextVerdict verdicts[MUSE_N_DOCUMENT_VERDICTS] = {
      [MUSE_DOCUMENT_EMPTY] = MUSE_TEXT_EMPTY,           [MUSE_DOCUMENT_NOT_TEXT] = MUSE_TEXT_BINARY,
      [MUSE_DOCUMENT_TOO_LARGE] = MUSE_TEXT_TOO_LARGE,
      [MUSE_DOCUMENT_UNREADABLE] = MUSE_TEXT_UNREADABLE, [MUSE_DOCUMENT_NO_JSON] = MUSE_TEXT_NO_JSON,
      [MUSE_DOCUMENT_DAMAGED] = MUSE_TEXT_DAMAGED,
  };
  MuseStr text = {0};
  MuseStatus status = MUSE_OK;
  while (status == MUSE_OK) {
    MuseDocumentVerdict verdict;
    status = muse_documents_next(documents, &text, &verdict, diag);
    if (status != MUSE_OK || verdict == MUSE_DOCUMENT_END) break;
    if (++job->walked.records <= n_passed) status = *job->options->stop ? MUSE_ERR_STOPPED : MUSE_OK;
    else if (verdict == MUSE_DOCUMENT_OK) status = queue_slot(job, NULL, &text, MUSE_TEXT_OK, diag);
    else status = queue_slot(job, NULL, NULL, verdicts[verdict], diag);
  }
  if (status == MUSE_OK && job->walked.records < n_passed) job->changed = true, status = MUSE_ERR_NO_FIT;
  muse_str_free(&text);
  muse_documents_close(documents);
  return status;
}

static bool is_jsonl(const char *path) {
  static const char *const endings[] = {".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst"};
  for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
    if (muse_str_ends_with(path, endings[i])) return true;
  return false;
}

// The next file of the walk joins the hash of the inputs.
static void begin_file(Job *job, const char *path) {
  struct stat st = {0};
  MuseStr s = {0};
  if (stat(path, &st) != 0) st = (struct stat){.st_size = -1}; // gone since the walk saw it
  uint64_t facts[] = {job->walked.inputs.lo, job->walked.inputs.hi, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
                      (uint64_t)st.st_mtim.tv_nsec};
  muse_str_append_n(&s, (const char *)facts, sizeof facts);
  muse_str_append(&s, path);
  job->walked = (Position){.files = job->walked.files + 1, .inputs = muse_hash128(s.data, s.len)};
  muse_str_free(&s);
}

static MuseStatus queue_file(void *user, const char *path, MuseDiag *diag) {
  Job *job = user;
  begin_file(job, path);
  uint64_t n_passed = 0;
  if (job->to_pass) {
    if (*job->options->stop) return MUSE_ERR_STOPPED;
    if (--job->to_pass) return MUSE_OK;
    job->changed = job->walked.inputs.lo != job->whole.inputs.lo || job->walked.inputs.hi != job->whole.inputs.hi;
    if (job->changed || job->full) return MUSE_ERR_NO_FIT; // ends the walk; the caller knows why
    if (job->whole.records == 0) return MUSE_OK;
    n_passed = job->whole.records;
  }
  return is_jsonl(path) ? queue_records(job, path, n_passed, diag) : queue_slot(job, path, NULL, MUSE_TEXT_OK, diag);
}

// The ring and its threads, once through the inputs.
static MuseStatus run_threads(Job *job, MuseDiag *diag) {
  pthread_t threads[MAX_THREADS];
  int64_t n_threads = job->options->threads > 0 ? job->options->threads : sysconf(_SC_NPROCESSORS_ONLN);
  n_threads = n_threads < 1 ? 1 : n_threads > MAX_THREADS ? MAX_THREADS : n_threads;
  job->queued = job->taken = job->written = 0;
  job->closing = false;
  job->n_slots = (uint64_t)n_threads * SLOTS_PER_THREAD;
  job->slots = calloc(job->n_slots, sizeof *job->slots);
  if (!job->slots) muse_out_of_memory(job->n_slots * sizeof *job->slots);
  for (uint64_t i = 0; i < job->n_slots; i++) job->slots[i].diag = muse_diag_create();
  int64_t started = 0;
  while (started < n_threads && pthread_create(&threads[started], NULL, work, job) == 0) started++;
  MuseStatus status = started ? MUSE_OK : muse_error(diag, MUSE_ERR_FAILED, "cannot start a thread");
  if (status == MUSE_OK) status = muse_text_walk(&job->options->inputs, &job->options->endings, queue_file, job, diag);
  if (status == MUSE_OK && job->to_pass) job->changed = true; // there are fewer files
  if (job->full || job->changed) status = MUSE_OK;
  while (status == MUSE_OK && job->written < job->queued) status = write_oldest(job, diag);
  pthread_mutex_lock(&job->mutex);
  if (status != MUSE_OK) job->queued = job->taken; // what nobody has begun is dropped; paths are freed below
  job->closing = true;
  pthread_cond_broadcast(&job->work);
  pthread_mutex_unlock(&job->mutex);
  for (int64_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
  for (uint64_t i = 0; i < job->n_slots; i++) {
    free(job->slots[i].path);
    muse_diag_destroy(job->slots[i].diag);
    muse_str_free(&job->slots[i].text);
    muse_vec_free(&job->slots[i].ids);
  }
  free(job->slots);
  return status;
}

static void print_summary(const Job *job, FILE *out) {
  const MuseTokenizeOptions *o = job->options;
  const MuseTokenizeProgress *p = &job->progress;
  MuseStr s = {0};
  if (o->json) {
    muse_str_append(&s, "{\"output\":");
    muse_json_append_text(&s, o->output, strlen(o->output));
    muse_str_appendf(
        &s, ",\"documents\":%llu,\"tokens\":%llu,\"bytes\":%llu,\"files\":%llu,\"duplicates\":%llu,\"left_out\":{",
        (unsigned long long)p->tokens.n_documents, (unsigned long long)p->tokens.n_tokens,
        (unsigned long long)p->n_bytes, (unsigned long long)p->n_files, (unsigned long long)p->n_duplicates);
    for (int v = MUSE_TEXT_EMPTY; v < MUSE_TEXT_STOPPED; v++)
      muse_str_appendf(&s, "%s\"%s\":%llu", v > MUSE_TEXT_EMPTY ? "," : "", muse_text_verdict_name((MuseTextVerdict)v),
                       (unsigned long long)p->n_verdicts[v]);
    muse_str_append(&s, "}}\n");
  } else {
    muse_str_appendf(&s, "%s: %llu documents, %llu tokens from ", o->output, (unsigned long long)p->tokens.n_documents,
                     (unsigned long long)p->tokens.n_tokens);
    muse_str_append_bytes(&s, p->n_bytes);
    muse_str_append(&s, " of text\n");
    for (int v = MUSE_TEXT_EMPTY; v < MUSE_TEXT_STOPPED; v++) {
      if (p->n_verdicts[v])
        muse_str_appendf(&s, "  left out: %llu files, %s\n", (unsigned long long)p->n_verdicts[v],
                         muse_text_verdict_name((MuseTextVerdict)v));
    }
    if (p->n_duplicates)
      muse_str_appendf(&s, "  left out: %llu files, equal to an earlier one\n", (unsigned long long)p->n_duplicates);
  }
  fputs(s.data, out);
  muse_str_free(&s);
}

static MuseStatus tell_no_text(const Job *job, MuseDiag *diag) {
  const MuseTokenizeProgress *p = &job->progress;
  if (p->n_files == 0)
    return muse_error(diag, MUSE_ERR_INPUT, "no text was found, for there are no files%s; name other folders",
                      job->options->endings.len ? " with such an --ending" : "");
  MuseStr why = {0};
  for (int v = MUSE_TEXT_EMPTY; v < MUSE_TEXT_STOPPED; v++)
    if (p->n_verdicts[v])
      muse_str_appendf(&why, "%s%llu %s", why.len ? ", " : "", (unsigned long long)p->n_verdicts[v],
                       muse_text_verdict_name((MuseTextVerdict)v));
  MuseStatus status = muse_error(diag, MUSE_ERR_INPUT, "no text was found in %llu file%s (%s); name other folders",
                                 (unsigned long long)p->n_files, p->n_files == 1 ? "" : "s", muse_str_text(&why));
  muse_str_free(&why);
  return status;
}

// NAME.tokenizer.json or .model: the set can be shown as text, and other sets made alike, wherever it goes.
static MuseStatus keep_tokenizer(const Job *job, MuseDiag *diag) {
  const char *path = muse_tokenizer_path(job->tokenizer);
  MuseStr copy = {0}, bytes = {0};
  MuseTokenizer *again = NULL;
  bool json = muse_str_eq(muse_tokenizer_kind(job->tokenizer), "byte-level BPE");
  muse_tokens_tokenizer_path(job->options->output, json, &copy);
  MuseStatus status = MUSE_OK;
  if (path) {
    status = muse_read_file(path, (uint64_t)1 << 30, &bytes, diag);
    // It may have been replaced since, or be the copy itself.
    if (status == MUSE_OK) status = muse_tokenizer_read(path, muse_str_text(&bytes), bytes.len, &again, diag);
    if (status == MUSE_OK && muse_tokenizer_hash(again) != muse_tokenizer_hash(job->tokenizer))
      status = muse_error(diag, MUSE_ERR_FAILED, "'%s' changed while it was in use; run again", path);
    if (status == MUSE_OK) status = muse_write_file_atomic(copy.data, muse_str_text(&bytes), bytes.len, diag);
  }
  muse_tokenizer_close(again);
  muse_str_free(&copy);
  muse_str_free(&bytes);
  return status;
}

// ---- from where on

// All that decides what the set holds, but what is in the inputs.
static void append_request(const Job *job, MuseStr *s) {
  const MuseTokenizeOptions *o = job->options;
  muse_str_appendf(s, "muse %s tokenizer %s %016llx vocabulary %lld max-tokens %lld max-document %llu duplicates %d",
                   MUSE_VERSION, muse_tokenizer_name(job->tokenizer),
                   (unsigned long long)muse_tokenizer_hash(job->tokenizer),
                   (long long)muse_tokenizer_vocab_size(job->tokenizer), (long long)o->max_tokens,
                   (unsigned long long)o->max_document, o->keep_duplicates);
  for (int i = 0; i < o->endings.len; i++)
    muse_str_appendf(s, " ending %zu %s", strlen(o->endings.data[i]), o->endings.data[i]);
  for (int i = 0; i < o->inputs.len; i++)
    muse_str_appendf(s, " input %zu %s", strlen(o->inputs.data[i]), o->inputs.data[i]);
}

static MuseStatus open_writer(Job *job, const MuseTokensMark *mark, MuseDiag *diag) {
  return muse_tokens_writer_open_kept(job->options->output, muse_tokenize_journal_folder(job->journal), mark,
                                      muse_tokenizer_name(job->tokenizer), muse_tokenizer_hash(job->tokenizer),
                                      muse_tokenizer_vocab_size(job->tokenizer), &job->writer, diag);
}

// Drops what was begun, for the reason given (NULL: nothing was), and begins.
static MuseStatus begin_anew(Job *job, const char *request, const char *why, MuseDiag *diag) {
  if (why) { // said now, since what follows may take hours
    muse_warning_at(diag, (MuseLoc){0}, "'%s' was begun before, but %s; starting over", job->options->output, why);
    muse_diag_print(diag, stderr);
    muse_diag_clear(diag);
  }
  muse_tokens_writer_abort(job->writer);
  job->writer = NULL;
  muse_seen_free(&job->seen);
  job->seen.max = MAX_KNOWN_DOCUMENTS;
  job->progress = job->whole = (MuseTokenizeProgress){0};
  job->to_pass = 0;
  job->changed = job->full = false;
  MUSE_TRY(muse_tokenize_journal_start(job->journal, request, diag));
  return open_writer(job, NULL, diag);
}

static MuseStatus go_on(Job *job, const char *request, MuseDiag *diag) {
  static const char *const others = "with other options or inputs, another tokenizer or another version of MUSE";
  static const char *const damaged = "what is there is damaged";
  job->seen.max = MAX_KNOWN_DOCUMENTS;
  switch (muse_tokenize_journal_load(job->journal, request, &job->whole, &job->seen, diag)) {
  case MUSE_JOURNAL_NONE: return begin_anew(job, request, NULL, diag);
  case MUSE_JOURNAL_OTHER: return begin_anew(job, request, others, diag);
  case MUSE_JOURNAL_DAMAGED: return begin_anew(job, request, damaged, diag);
  case MUSE_JOURNAL_SHORTAGE: return MUSE_ERR_FAILED;
  case MUSE_JOURNAL_FOUND: break;
  }
  MuseStatus status = open_writer(job, &job->whole.tokens, NULL);
  if (status == MUSE_ERR_DATA) return begin_anew(job, request, damaged, diag);
  if (status != MUSE_OK) MUSE_TRY(open_writer(job, &job->whole.tokens, diag)); // says why
  job->progress = job->whole;
  job->to_pass = job->whole.files;
  check_full(job);
  if (!job->options->quiet)
    fprintf(stderr, "going on after %lld documents of an earlier run\n", (long long)job->whole.tokens.n_documents);
  return MUSE_OK;
}

static MuseStatus write_all(Job *job, const char *request, MuseDiag *diag) {
  MUSE_TRY(go_on(job, request, diag));
  job->last_saved = now_seconds();
  MuseStatus status = run_threads(job, diag);
  if (status == MUSE_OK && job->changed) {
    MUSE_TRY(begin_anew(job, request, "its inputs have changed since", diag));
    job->walked = (Position){0};
    status = run_threads(job, diag);
  }
  if (job->last_shown > 0) fputs("\r\033[K", stderr);
  return status;
}

// ---- the command

static MuseStatus tell_stopped(Job *job, MuseDiag *diag) {
  bool saved = muse_tokenize_journal_is_saved(job->journal);
  // A second try to begin anew may have been stopped before it wrote anything.
  if (job->whole.tokens.n_documents > 0 && job->writer && save(job, diag) == MUSE_OK) saved = true;
  if (!saved) return muse_error(diag, MUSE_ERR_STOPPED, "stopped; '%s' is as it was before", job->options->output);
  return muse_error(diag, MUSE_ERR_STOPPED,
                    "stopped; '%s' is as it was before, and the same command goes on after %lld documents",
                    job->options->output, (long long)job->whole.tokens.n_documents);
}

static MuseStatus tokenize(Job *job, FILE *out, MuseDiag *diag) {
  MuseStr request = {0};
  append_request(job, &request);
  MuseStatus status = write_all(job, request.data, diag);
  muse_str_free(&request);
  if (status == MUSE_ERR_STOPPED) return tell_stopped(job, diag);
  // Nothing is wrong with what was written before an input could not be read.
  bool sound = job->writer && !job->write_failed && job->whole.tokens.n_documents > 0;
  if (status == MUSE_ERR_FAILED && sound) (void)save(job, NULL);
  if (status == MUSE_OK && job->progress.tokens.n_documents == 0) status = tell_no_text(job, diag);
  if (status == MUSE_OK) status = save(job, diag); // a crash from here on is mended by the same command
  if (status == MUSE_OK) status = keep_tokenizer(job, diag);
  if (status != MUSE_OK) return status;
  status = muse_tokens_writer_finish(job->writer, NULL, diag);
  job->writer = NULL;
  if (status == MUSE_OK) print_summary(job, out);
  return status;
}

MuseStatus muse_data_tokenize(const MuseTokenizeOptions *options, FILE *out, MuseDiag *diag) {
  Job job = {.options = options, .mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER,
             .result = PTHREAD_COND_INITIALIZER};
  MUSE_TRY(muse_tokenizer_open(options->tokenizer, &job.tokenizer, diag));
  MuseStatus status = muse_make_parent_dirs(options->output, diag);
  if (status == MUSE_OK) status = muse_tokenize_journal_open(options->output, &job.journal, diag);
  if (status == MUSE_OK) {
    status = tokenize(&job, out, diag);
    muse_tokens_writer_abort(job.writer);
    bool keep = status != MUSE_OK && muse_tokenize_journal_is_saved(job.journal);
    if (keep && status != MUSE_ERR_STOPPED)
      muse_note_at(diag, (MuseLoc){0}, "what is done of '%s' is kept, and the same command goes on from there",
                   options->output);
    muse_tokenize_journal_close(job.journal, keep);
  }
  muse_seen_free(&job.seen);
  muse_tokenizer_close(job.tokenizer);
  return status;
}
