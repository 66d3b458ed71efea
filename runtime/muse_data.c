// muse-data: gets text, makes token sets of it, shows what they hold, and mixes them.
#include "runtime/data_commands.h"

#include "ir/base/str.h"
#include "runtime/recipe.h"
#include "runtime/signals.h"

#include <stdlib.h>
#include <string.h>

// Whether the last part of the path can get the endings .bin and .idx and be seen.
static bool is_file_name(const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  return *name && !muse_str_eq(name, ".") && !muse_str_eq(name, "..");
}

// The same of a folder, whose name may end with slashes.
static bool is_folder_name(const char *path) {
  MuseStr name = {0};
  size_t n = strlen(path);
  while (n && path[n - 1] == '/') n--;
  muse_str_append_n(&name, path, n);
  bool is = is_file_name(muse_str_text(&name));
  muse_str_free(&name);
  return is;
}

static MuseStatus run_tokenize(int argc, char **argv, MuseDiag *diag) {
  MuseTokenizeOptions o = {.tokenizer = "bytes", .max_document = (uint64_t)1 << 30,
                           .save_seconds = MUSE_TOKENIZE_SAVE_SECONDS, .stop = NULL};
  bool help = false;
  const MuseOption table[] = {
      {"output", 'o', MUSE_OPT_TEXT, "NAME", "Writes NAME.bin and NAME.idx.", &o.output},
      {"tokenizer", 't', MUSE_OPT_TEXT, "NAME", "bytes (the default), or the path of a tokenizer.json or .model.",
       &o.tokenizer},
      {"ending", 'e', MUSE_OPT_LIST, "END", "Takes only names that end like this (or so with .gz); may be repeated.",
       &o.endings},
      {"max-tokens", 0, MUSE_OPT_INT, "N", "Stops after the document that brings the total to N tokens.",
       &o.max_tokens},
      {"max-document", 0, MUSE_OPT_BYTES, "SIZE", "Leaves longer documents out (1 GiB).", &o.max_document},
      {"keep-duplicates", 0, MUSE_OPT_FLAG, NULL, "Keeps documents that equal an earlier one.", &o.keep_duplicates},
      {"save-interval", 0, MUSE_OPT_REAL, "SECONDS", "Syncs so often what is done, to go on after a crash (10).",
       &o.save_seconds},
      {"threads", 'j', MUSE_OPT_INT, "N", "Number of threads (all cores); the result is the same for any.", &o.threads},
      {"quiet", 'q', MUSE_OPT_FLAG, NULL, "No progress on the terminal.", &o.quiet},
      {"json", 0, MUSE_OPT_FLAG, NULL, "Prints the summary as JSON.", &o.json},
      {NULL},
  };
  MuseStatus status = muse_options_parse(argc, argv, table, &o.inputs, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-data tokenize [options] FOLDER|FILE... -o NAME",
                      "Makes a token set of all UTF-8 text in folders and files, gzip-compressed or not.", stdout);
  } else if (status == MUSE_OK) {
    if (o.inputs.len == 0) status = muse_error(diag, MUSE_ERR_INPUT, "name at least one folder or file with text");
    else if (!o.output || !*o.output)
      status = muse_error(diag, MUSE_ERR_INPUT, "say with -o NAME where the token set goes");
    else if (!is_file_name(o.output))
      status = muse_error(diag, MUSE_ERR_INPUT,
                          "-o takes the name of the token set, such as '%s%sNAME', not of a folder", o.output,
                          muse_str_ends_with(o.output, "/") ? "" : "/");
    else if (o.threads < 0 || o.max_tokens < 0)
      status = muse_error(diag, MUSE_ERR_INPUT, "--threads and --max-tokens take numbers from 0 on");
    else if (!(o.save_seconds >= 0 && o.save_seconds <= 1e6))
      status = muse_error(diag, MUSE_ERR_INPUT, "--save-interval takes seconds from 0 to 1e6");
  }
  if (status == MUSE_OK && !help) {
    o.stop = muse_catch_stop(NULL);
    status = muse_data_tokenize(&o, stdout, diag);
  }
  muse_text_list_free(&o.inputs);
  muse_text_list_free(&o.endings);
  return status;
}

static MuseStatus run_fetch(int argc, char **argv, MuseDiag *diag) {
  MuseFetchOptions o = {.output = "data", .via = "auto", .retry_seconds = 1};
  bool help = false;
  const MuseOption table[] = {
      {"max-samples", 'n', MUSE_OPT_INT, "N", "Fetches N documents of each set (all).", &o.max_samples},
      {"output", 'o', MUSE_OPT_TEXT, "DIR", "Puts the text into DIR/text/NAME (data).", &o.output},
      {"tokenize", 't', MUSE_OPT_TEXT, "KIND", "Makes the token set DIR/NAME too, with this tokenizer.", &o.tokenizer},
      {"datasets", 0, MUSE_OPT_TEXT, "FILE", "The file that declares the sets (configs/datasets.yaml).", &o.datasets},
      {"list", 0, MUSE_OPT_FLAG, NULL, "Lists the sets that are declared.", &o.list},
      {"via", 0, MUSE_OPT_TEXT, "WAY",
       "rows: from the hub's viewer, 100 a request; files: whole files; auto: rows for few samples, else files.",
       &o.via},
      {"viewer", 0, MUSE_OPT_TEXT, "URL",
       "The dataset viewer of the hub (HF_ENDPOINT, its host with datasets-server. in front).", &o.viewer},
      {"discard", 0, MUSE_OPT_FLAG, NULL, "Removes each downloaded file from the cache once its text is out.",
       &o.discard},
      {"force", 'f', MUSE_OPT_FLAG, NULL, "Replaces another choice of a set that is there.", &o.replace},
      {"else-from", 0, MUSE_OPT_LIST, "PATH",
       "When the hub cannot be reached, makes the set machine_text from the text in PATH instead; may be repeated.",
       &o.else_from},
      {"retry-wait", 0, MUSE_OPT_REAL, "SECONDS", "Waits so long before a second try, then twice as long (1).",
       &o.retry_seconds},
      {"quiet", 'q', MUSE_OPT_FLAG, NULL, "No progress on the terminal.", &o.quiet},
      {"json", 0, MUSE_OPT_FLAG, NULL, "Prints the summary as JSON, one line a set.", &o.json},
      {NULL},
  };
  MuseStatus status = muse_options_parse(argc, argv, table, &o.names, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-data fetch [options] NAME...",
                      "Fetches data sets from the hub as documents, one a line. HF_TOKEN, HF_ENDPOINT, HF_HOME and "
                      "HF_HUB_OFFLINE mean what they mean to the hub's own tools.", stdout);
  } else if (status == MUSE_OK) {
    if (o.names.len == 0 && !o.list)
      status = muse_error(diag, MUSE_ERR_INPUT, "name at least one data set; --list shows them");
    else if (o.list && (o.names.len || o.json))
      status = muse_error(diag, MUSE_ERR_INPUT, "--list shows all sets as text and fetches none; leave out %s%s",
                          o.names.len ? "the name " : "--json", o.names.len ? o.names.data[0] : "");
    else if (o.max_samples < 0) status = muse_error(diag, MUSE_ERR_INPUT, "--max-samples takes a number from 0 on");
    else if (o.retry_seconds < 0 || o.retry_seconds > 60)
      status = muse_error(diag, MUSE_ERR_INPUT, "--retry-wait takes seconds from 0 to 60");
    else if (!*o.output) status = muse_error(diag, MUSE_ERR_INPUT, "-o takes the name of a folder");
    else o.stop = muse_catch_stop(NULL), status = muse_data_fetch(&o, stdout, diag);
  }
  muse_text_list_free(&o.names);
  muse_text_list_free(&o.else_from);
  return status;
}

static MuseStatus run_import(int argc, char **argv, MuseDiag *diag) {
  MuseImportOptions o = {.max_document = (uint64_t)64 << 20};
  bool help = false;
  const MuseOption table[] = {
      {"output", 'o', MUSE_OPT_TEXT, "DIR", "Writes DIR/train and DIR/validation.", &o.output},
      {"validation", 0, MUSE_OPT_REAL, "SHARE", "Sets this share of the documents aside, chosen by their hash (0.01).",
       &o.validation},
      {"column", 'c', MUSE_OPT_TEXT, "NAME", "The text of JSONL and Parquet records (text).", &o.column},
      {"template", 0, MUSE_OPT_TEXT, "TEXT",
       "How records become text: {column}, [left out when a column in it is empty].", &o.form},
      {"encoding", 0, MUSE_OPT_TEXT, "NAME", "The encoding of files that are not UTF-8: shift_jis, euc-jp, ...",
       &o.encoding},
      {"nfkc", 0, MUSE_OPT_FLAG, NULL, "Normalises text (NFKC): full-width letters become plain ones, ...", &o.nfkc},
      {"keep-duplicates", 0, MUSE_OPT_FLAG, NULL, "Keeps documents that equal an earlier one.", &o.keep_duplicates},
      {"max-document", 0, MUSE_OPT_BYTES, "SIZE", "Leaves longer documents out (64 MiB, at most 1 GiB).",
       &o.max_document},
      {"max-documents", 'n', MUSE_OPT_INT, "N", "Stops after N documents.", &o.max_documents},
      {"any-name", 0, MUSE_OPT_FLAG, NULL, "Takes files of folders whatever their names end with.", &o.any_name},
      {"force", 'f', MUSE_OPT_FLAG, NULL, "Replaces an output that is there.", &o.replace},
      {"quiet", 'q', MUSE_OPT_FLAG, NULL, "No progress on the terminal.", &o.quiet},
      {"json", 0, MUSE_OPT_FLAG, NULL, "Prints the summary as JSON.", &o.json},
      {NULL},
  };
  o.validation = 0.01;
  MuseStatus status = muse_options_parse(argc, argv, table, &o.inputs, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-data import [options] PATH... -o DIR",
                      "Makes documents, one a line, from folders of .txt, .md, .jsonl and .parquet files, compressed "
                      "(.gz, .zst) or not.", stdout);
  } else if (status == MUSE_OK) {
    if (o.inputs.len == 0) status = muse_error(diag, MUSE_ERR_INPUT, "name at least one folder or file");
    else if (!o.output) status = muse_error(diag, MUSE_ERR_INPUT, "say with -o DIR which folder the documents go to");
    else if (!is_folder_name(o.output))
      status = muse_error(diag, MUSE_ERR_INPUT, "-o takes the name of a folder to be made, not '%s'", o.output);
    else if (!(o.validation >= 0 && o.validation < 1))
      status = muse_error(diag, MUSE_ERR_INPUT, "--validation takes a share from 0 to below 1");
    else if (o.max_documents < 0) status = muse_error(diag, MUSE_ERR_INPUT, "--max-documents takes a number from 0 on");
    else if (o.max_document == 0 || o.max_document > (uint64_t)1 << 30)
      status = muse_error(diag, MUSE_ERR_INPUT, "--max-document takes a size up to 1GiB");
    else if (o.form && o.column)
      status = muse_error(diag, MUSE_ERR_INPUT,
                          "--template names its columns itself; leave out --column or --template");
    else if (o.column && !*o.column) status = muse_error(diag, MUSE_ERR_INPUT, "--column takes the name of a column");
    else if (!o.column) o.column = "text";
    if (status == MUSE_OK) o.stop = muse_catch_stop(NULL), status = muse_data_import(&o, stdout, diag);
  }
  muse_text_list_free(&o.inputs);
  return status;
}

static MuseStatus run_inspect(int argc, char **argv, MuseDiag *diag) {
  MuseInspectOptions o = {.n_documents = INT64_MIN, .document = INT64_MIN, .max_tokens = 400};
  MuseTextList names = {0};
  bool help = false;
  const MuseOption table[] = {
      {"documents", 'n', MUSE_OPT_INT, "N", "Number of random documents to show (3).", &o.n_documents},
      {"document", 'd', MUSE_OPT_INT, "I", "Shows document number I, counted from 0.", &o.document},
      {"max-tokens", 0, MUSE_OPT_INT, "N", "Shows at most N tokens of a document (400).", &o.max_tokens},
      {"seed", 0, MUSE_OPT_INT, "S", "Chooses other random documents.", &o.seed},
      {"tokenizer", 't', MUSE_OPT_TEXT, "NAME", "Decodes with this tokenizer (the one kept beside the set).",
       &o.tokenizer},
      {"scan", 0, MUSE_OPT_FLAG, NULL, "Reads and checks every id.", &o.scan},
      {"json", 0, MUSE_OPT_FLAG, NULL, "Prints JSON.", &o.json},
      {NULL},
  };
  MuseStatus status = muse_options_parse(argc, argv, table, &names, &help, diag);
  if (status == MUSE_OK && help) {
    muse_options_help(table, "muse-data inspect [options] NAME", "Shows what a token set holds.", stdout);
  } else if (status == MUSE_OK) {
    if (names.len != 1) status = muse_error(diag, MUSE_ERR_INPUT, "name one token set to inspect");
    else if (o.document != INT64_MIN && (o.n_documents != INT64_MIN || o.seed))
      status = muse_error(diag, MUSE_ERR_INPUT, "--%s is for random documents, and --document names one; leave out one",
                          o.seed ? "seed" : "documents");
    else if ((o.n_documents < 0 && o.n_documents != INT64_MIN) || o.max_tokens < 0 ||
             (o.document < 0 && o.document != INT64_MIN))
      status = muse_error(diag, MUSE_ERR_INPUT, "--documents, --document and --max-tokens take numbers from 0 on");
    else if (o.n_documents > 1000000)
      status = muse_error(diag, MUSE_ERR_INPUT, "--documents takes a number up to 1000000");
    else if (o.n_documents == INT64_MIN) o.n_documents = 3;
    if (status == MUSE_OK) o.name = names.data[0], status = muse_data_inspect(&o, stdout, diag);
  }
  muse_text_list_free(&names);
  return status;
}

static MuseStatus run_recipe(int argc, char **argv, MuseDiag *diag) {
  MuseRecipeOptions o = {.data = "data", .output = "configs/dataset_mixing.yaml"};
  MuseTextList operands = {0};
  bool help = false;
  const MuseOption table[] = {
      {"preset", 'p', MUSE_OPT_TEXT, "NAME", "The mixture: balanced, code, japanese, textbook or custom.", &o.preset},
      {"weights", 'w', MUSE_OPT_LIST, "NAME=W,...", "Your own mixture; sets that are not named are left out.",
       &o.weights},
      {"tokens", 'n', MUSE_OPT_TEXT, "N", "The tokens that you will train on: 300M, 2B, 1e9.", &o.tokens},
      {"config", 'c', MUSE_OPT_TEXT, "SIZE",
       "Makes a config, too: tiny, 300m, 1b, 10b, auto (what suits this machine) or none.", &o.model},
      {"config-output", 0, MUSE_OPT_TEXT, "FILE", "Where the config goes (configs/my_SIZE.yaml).", &o.model_output},
      {"tokenizer", 't', MUSE_OPT_TEXT, "FILE",
       "The tokenizer that the config names (bytes, or the file that lies beside the sets).", &o.tokenizer},
      {"data", 'd', MUSE_OPT_TEXT, "DIR", "The folder of token sets (data).", &o.data},
      {"configs", 0, MUSE_OPT_TEXT, "DIR", "The folder of MUSE's configs (configs, or where they are installed).",
       &o.configs},
      {"output", 'o', MUSE_OPT_TEXT, "FILE", "Where the recipe goes (configs/dataset_mixing.yaml).", &o.output},
      {"memory", 0, MUSE_OPT_BYTES, "SIZE", "Takes this for the memory of the GPU.", &o.memory},
      {"lang", 0, MUSE_OPT_TEXT, "LANG", "en or ja (by the locale).", &o.language},
      {"yes", 'y', MUSE_OPT_FLAG, NULL, "Asks nothing; what is not given is the default.", &o.yes},
      {"force", 'f', MUSE_OPT_FLAG, NULL, "Replaces files that are there.", &o.force},
      {NULL},
  };
  MuseStatus status = muse_options_parse(argc, argv, table, &operands, &help, diag);
  if (status == MUSE_OK && help)
    muse_options_help(table, "muse-data recipe [options]",
                      "Mixes the token sets of a folder: asks what to train on, and writes the recipe.", stdout);
  else if (status == MUSE_OK && operands.len)
    status = muse_error(diag, MUSE_ERR_INPUT, "recipe takes no operand, but '%s' is one; --data names a folder",
                        operands.data[0]);
  else if (status == MUSE_OK) {
    o.stop = muse_catch_stop(NULL);
    status = muse_data_recipe(&o, diag);
  }
  muse_text_list_free(&operands);
  muse_text_list_free(&o.weights);
  return status;
}

static const MuseCommand commands[] = {
    {"fetch", run_fetch, "fetches data sets from the hub"},
    {"import", run_import, "makes documents of files and folders of one's own"},
    {"tokenize", run_tokenize, "makes a token set from folders and files"},
    {"tokenizer", muse_data_tokenizer, "shows, uses and trains tokenizers"},
    {"inspect", run_inspect, "shows what a token set holds"},
    {"recipe", run_recipe, "mixes token sets for training, by questions or flags"},
    {0},
};
static const MuseProgram program = {"muse-data", "Gets text, makes token sets, shows and mixes them.", commands};

int main(int argc, char **argv) {
  muse_program_start();
  MuseDiag *diag = muse_diag_create();
  return muse_program_end(muse_program_run(&program, argc, argv, diag), diag);
}
