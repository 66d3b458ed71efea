#ifndef MUSE_RUNTIME_TOKENIZE_JOURNAL_H
#define MUSE_RUNTIME_TOKENIZE_JOURNAL_H

#include "corpus/seen.h"
#include "runtime/text_files.h"
#include "runtime/tokens.h"

// What lets muse-data tokenize go on after a stop, a kill or a power cut: the folder .NAME.partial beside NAME.bin with
// the token files as they grow, the hashes of the duplicate check, and journal.json, which says how much of them
// counts.

typedef struct MuseTokenizeProgress {
  // The walk: files begun, records taken of the last of them (0: all of it), and a hash over path, size and time of
  // each.
  uint64_t files, records;
  MuseHash inputs;
  MuseTokensMark tokens;
  uint64_t n_seen;  // documents that the duplicate check knows
  uint64_t n_files, n_bytes, n_duplicates, n_verdicts[MUSE_N_TEXT_VERDICTS];
} MuseTokenizeProgress;

typedef struct MuseTokenizeJournal MuseTokenizeJournal;

typedef enum MuseJournalVerdict {
  MUSE_JOURNAL_NONE,    // nothing was begun
  MUSE_JOURNAL_FOUND,
  MUSE_JOURNAL_OTHER,   // something was begun, by another request
  MUSE_JOURNAL_DAMAGED,
  MUSE_JOURNAL_SHORTAGE, // it cannot be read now (muse_is_shortage), which diag says
} MuseJournalVerdict;

// Takes the folder of a token set, making it when it is not there; MUSE_ERR_INPUT while another process has it.
MuseStatus muse_tokenize_journal_open(const char *output, MuseTokenizeJournal **out_journal, MuseDiag *diag);
const char *muse_tokenize_journal_folder(const MuseTokenizeJournal *journal);
// What was begun for this request, a text that stands for everything but the inputs that decides the result. When it is
// FOUND, *seen gets the documents of the duplicate check.
MuseJournalVerdict muse_tokenize_journal_load(MuseTokenizeJournal *journal, const char *request,
                                              MuseTokenizeProgress *out_progress, MuseSeen *seen, MuseDiag *diag);
// Forgets what is there, and starts for this request.
MuseStatus muse_tokenize_journal_start(MuseTokenizeJournal *journal, const char *request, MuseDiag *diag);
// A document for the duplicate check; it reaches the disk with the next save whose n_seen counts it.
void muse_tokenize_journal_add_seen(MuseTokenizeJournal *journal, MuseHash hash);
// After the token files have been brought to the disk.
MuseStatus muse_tokenize_journal_save(MuseTokenizeJournal *journal, const MuseTokenizeProgress *progress,
                                      MuseDiag *diag);
bool muse_tokenize_journal_is_saved(const MuseTokenizeJournal *journal); // there is something to go on from
// Gives the folder back; unless `keep`, it goes. NULL is allowed.
void muse_tokenize_journal_close(MuseTokenizeJournal *journal, bool keep);

#endif
