#ifndef MUSE_COMPILER_CONFIG_YAML_H
#define MUSE_COMPILER_CONFIG_YAML_H

// A small, bounded YAML reader for configuration files: the events of libyaml as a tree of located nodes. What a file
// of settings never needs is refused with a sentence: anchors, aliases, merge keys, tags, several documents, deep
// nesting.

#include "ir/base/arena.h"
#include "ir/base/diag.h"

#include <stdbool.h>

enum {
  MUSE_YAML_MAX_BYTES = 1 << 20, // size of a file
  MUSE_YAML_MAX_DEPTH = 16,      // mappings and lists inside each other
  MUSE_YAML_MAX_NODES = 1 << 16,
  MUSE_YAML_MAX_ERRORS = 50, // after so many a file is given up
};

typedef enum MuseYamlKind { MUSE_YAML_SCALAR, MUSE_YAML_LIST, MUSE_YAML_MAPPING } MuseYamlKind;

typedef struct MuseYamlNode MuseYamlNode;
struct MuseYamlNode {
  MuseYamlKind kind;
  MuseLoc loc;
  bool quoted;      // scalar in quotes or as a block: text, whatever it looks like
  const char *text; // scalar: NUL-terminated, `length` bytes (which may hold further NULs, from "\0")
  size_t length;
  MuseYamlNode *key;  // the key of a value in a mapping, always a scalar; otherwise NULL
  MuseYamlNode *next; // the next value of the same list or mapping
  MuseYamlNode *first, *last;
};

// Parses one document. *out_root is NULL for a text without a document. Problems go to `diag` at (name, line, column);
// after a syntax error the status is MUSE_ERR_INPUT and *out_root holds what was complete before it. Duplicate keys are
// kept. `name` is copied into the arena, where the nodes live.
MuseStatus muse_yaml_parse(const char *name, const char *text, size_t length, MuseArena *arena, MuseYamlNode **out_root,
                           MuseDiag *diag);

// Shows file contents inside a sentence: control characters escaped, at most about 40 bytes.
const char *muse_yaml_excerpt(MuseArena *arena, const char *text, size_t length);
// A scalar that YAML reads as null: nothing, ~, null.
bool muse_yaml_is_null(const MuseYamlNode *node);

#endif
