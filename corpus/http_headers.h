#ifndef MUSE_CORPUS_HTTP_HEADERS_H
#define MUSE_CORPUS_HTTP_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What a client wants to know of the headers of an answer, and of URLs.

enum { MUSE_HTTP_ETAG_BYTES = 256, MUSE_HTTP_URL_BYTES = 4096 };

typedef struct MuseHttpHeaders {
  int code;
  char etag[MUSE_HTTP_ETAG_BYTES], revision[128];
  char next[MUSE_HTTP_URL_BYTES];      // Link: <...>; rel="next"
  uint64_t range_start, range_total;   // Content-Range; UINT64_MAX: unknown
  double retry_after;                  // seconds; negative: not said
  double quota_left, quota_reset;      // RateLimit: requests and seconds; negative: not said
} MuseHttpHeaders;

void muse_http_headers_reset(MuseHttpHeaders *h);
void muse_http_headers_add(MuseHttpHeaders *h, const char *line, size_t length); // a status line starts afresh
// Seconds to wait before the same request again: Retry-After, else the reset of a quota that is used up; negative: not
// said.
double muse_http_headers_wait(const MuseHttpHeaders *h);
// Seconds to wait before any further request, for the quota is used up; 0: none.
double muse_http_headers_quota_wait(const MuseHttpHeaders *h);

// Same scheme, host and port.
bool muse_http_same_origin(const char *a, const char *b);
// Nobody on the way can read along: https, or this machine.
bool muse_http_is_private(const char *url);

#endif
