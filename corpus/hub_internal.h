#ifndef MUSE_CORPUS_HUB_INTERNAL_H
#define MUSE_CORPUS_HUB_INTERNAL_H

#include "corpus/hub.h"

#include <sys/types.h>

// Shared by hub_api.c and hub_cache.c.

// Appends CACHE/datasets--OWNER--NAME/kind/name(/more); more may be NULL.
void muse_hub_cache_path(const MuseHub *hub, const MuseDataset *set, MuseStr *out, const char *kind, const char *name,
                         const char *more);
ssize_t muse_read_link(const char *path, char *out, size_t cap); // NUL-terminated; negative: none
void muse_url_append(MuseStr *out, const char *text, bool keep_slash); // percent-encoded
bool muse_http_origin_is(const char *endpoint, const char *url);
MuseStatus muse_hub_refused(const MuseHub *hub, const MuseDataset *set, const char *url, int code, const char *body,
                            MuseDiag *diag);

#endif
