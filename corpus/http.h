#ifndef MUSE_CORPUS_HTTP_H
#define MUSE_CORPUS_HTTP_H

#include "ir/base/diag.h"
#include "ir/base/str.h"

#include <signal.h>
#include <stdint.h>

// GET over HTTP and HTTPS (libcurl) as a well-behaved client of a hub: it waits when it is told to (Retry-After,
// RateLimit), tries again after errors that pass, follows redirects itself, and sends the token nowhere but to the
// origins (scheme, host, port) it is meant for, and there only over HTTPS or to this machine.

typedef struct MuseHttp MuseHttp;

typedef struct MuseHttpOptions {
  const char *token;          // NULL: none
  const char *origins[2];     // URLs whose origins get the token; NULL: none
  double retry_seconds;       // before the second try; doubled each time, up to a minute
  bool quiet;                 // no note on stderr when it waits for long
  volatile sig_atomic_t *stop; // set by a signal
  void (*progress)(void *user, uint64_t bytes, uint64_t total); // of a download; NULL: nobody asks
  void *progress_user;
} MuseHttpOptions;

typedef struct MuseHttpAnswer {
  int code;                   // 200, 404, ...
  MuseStr body;               // of an error: what fits into max_bytes
  MuseStr next;               // the URL of the next page, from the Link header; empty: none
  MuseStr revision;           // X-Revision or X-Repo-Commit; empty: none
} MuseHttpAnswer;
void muse_http_answer_free(MuseHttpAnswer *answer);

MuseStatus muse_http_create(const MuseHttpOptions *options, MuseHttp **out_http, MuseDiag *diag);
void muse_http_destroy(MuseHttp *http); // NULL is allowed

// MUSE_OK with any code that is an answer (200, 401, 404, ...). MUSE_ERR_FAILED when there is none, or server errors do
// not pass; MUSE_ERR_STOPPED.
MuseStatus muse_http_get(MuseHttp *http, const char *url, uint64_t max_bytes, MuseHttpAnswer *out_answer,
                         MuseDiag *diag);

// Downloads to the file `part`, going on from the bytes it already holds: with Range, and If-Range where `part`.etag
// remembers which file they are of. `size` is that of the whole file. After MUSE_OK *out_code is the answer, and with
// 200 the part has all bytes and is synced. After every failure the part holds a beginning of the file.
MuseStatus muse_http_download(MuseHttp *http, const char *url, const char *part, uint64_t size, int *out_code,
                              MuseDiag *diag);

// The last failure was that no server could be reached at all.
bool muse_http_is_unreachable(const MuseHttp *http);

#endif
