#ifndef MUSE_COMPILER_CONFIG_INTERNAL_H
#define MUSE_COMPILER_CONFIG_INTERNAL_H

// Shared by the config*.c files only.

#include "compiler/config.h"

#include "compiler/config_yaml.h"

// What is known while a config is read.
typedef struct MuseConfigReader {
  MuseArena *arena;
  MuseDiag *diag;
  MuseConfig *config;
  int n_errors;
  bool failed[MUSE_CONFIG_MAX_KEYS];    // a value was given and refused, or a near miss of the key was written
  MuseLoc set_at[MUSE_CONFIG_MAX_KEYS]; // where the value was given; line 0: nowhere
} MuseConfigReader;

// Row of a key by its name, or -1.
int muse_config_find_key(const char *name);
void *muse_config_field(const MuseConfig *config, const MuseConfigKey *key);

// A key of other trainers that means one of ours, or changes nothing here.
typedef struct MuseConfigForeignKey {
  const char *name, *ours; // ours NULL: accepted and without effect
  const char *why;
} MuseConfigForeignKey;
const MuseConfigForeignKey *muse_config_foreign_keys(size_t *out_count);
const MuseConfigForeignKey *muse_config_find_foreign(const char *name);

// Reports an error at `loc`, counted; false, so that callers can write `return muse_config_refuse(...)`.
bool muse_config_refuse(MuseConfigReader *r, MuseLoc loc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Stores the YAML value in the field of `key` after checking its type and range.
bool muse_config_set_value(MuseConfigReader *r, const MuseConfigKey *key, const MuseYamlNode *value);

// Fills in what "auto" stands for, then checks keys against each other. Keys that were refused are not looked at.
void muse_config_derive(MuseConfigReader *r);
void muse_config_check(MuseConfigReader *r);

// Appends one value as YAML.
void muse_config_print_value(const MuseConfig *config, const MuseConfigKey *key, MuseStr *out_text);

#endif
