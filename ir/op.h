#ifndef MUSE_IR_OP_H
#define MUSE_IR_OP_H

#include "ir/base/arena.h"
#include "ir/base/diag.h"
#include "ir/base/str.h"
#include "ir/type.h"

// Classes of ops (see ops/ops.def).
typedef enum MuseOpClass {
  MUSE_CLASS_MAP,       // element by element, operands broadcast; the back ends know each of them
  MUSE_CLASS_REDUCE,    // reduce over axes, reduced dimensions stay as 1
  MUSE_CLASS_VIEW,      // same bytes or a plain rearrangement
  MUSE_CLASS_STRUCTURED, // has its own kernel skeleton
  MUSE_CLASS_COMPOSITE, // is replaced by its decomposition before kernels are made
  MUSE_CLASS_CONTROL,   // kernel, yield, return
} MuseOpClass;

typedef enum MuseOpKind {
#define MUSE_OP(name, class_, min_operands, max_operands, results, traits, attrs) MUSE_OP_##name,
#include "ops/ops.def"
#undef MUSE_OP
  MUSE_N_OPS
} MuseOpKind;

// Traits, or'ed in ops.def.
enum {
  MUSE_TRAIT_NONE = 0,
  MUSE_TRAIT_NO_GRAD = 1, // not differentiable: cotangents stop here, there is no grad hook
  MUSE_TRAIT_COMMUTATIVE = 2,
  MUSE_TRAIT_STRAIGHT_THROUGH = 4, // its gradient is defined, not derived (finite differences do not apply)
  MUSE_TRAIT_RANDOM = 8, // draws from Philox: carries the attribute rng_id (op id), never merged by CSE unless equal
  MUSE_TRAIT_TERMINATOR = 16,
};

typedef enum MuseAttrKind {
  MUSE_ATTR_INT,
  MUSE_ATTR_REAL,
  MUSE_ATTR_BOOL,
  MUSE_ATTR_TEXT,
  MUSE_ATTR_INTS,
  MUSE_ATTR_DTYPE
} MuseAttrKind;

typedef struct MuseAttr {
  const char *name; // arena or static
  MuseAttrKind kind;
  union {
    int64_t i;
    double real;
    bool b;
    const char *text;
    struct { const int64_t *data; int len; } ints;
    MuseDtype dtype;
  };
} MuseAttr;

typedef struct MuseAttrList { MuseAttr *data; int len, cap; } MuseAttrList; // in the module's arena, sorted as added

typedef struct MuseOpInfo {
  const char *name;
  MuseOpClass class_;
  int min_operands, max_operands; // max -1: any number
  int results;                    // -1: any number
  unsigned traits;
  // "axes:ints, eps:real=1e-06, window:int": name:kind, '=' gives a default, '?' after the kind: optional
  const char *attrs;
} MuseOpInfo;

const MuseOpInfo *muse_op_info(MuseOpKind kind);

// One entry of an op's attribute schema, parsed once from ops.def.
typedef struct MuseAttrSchema {
  MuseAttrKind kind;
  bool required, has_default; // neither: optional
  MuseAttr value;             // the default; its name is the attribute's name in any case
} MuseAttrSchema;
const MuseAttrSchema *muse_op_schema(MuseOpKind kind, int *out_n);
const char *muse_attr_kind_name(MuseAttrKind kind); // "int" "real" ...

bool muse_op_kind_from_name(const char *name, size_t length, MuseOpKind *out);

typedef struct MuseOp MuseOp;
typedef struct MuseRegion MuseRegion;

typedef struct MuseValue {
  MuseType type;
  MuseOp *def;        // NULL: argument of `region`
  MuseRegion *region; // the region whose argument or op result this is
  int index;          // of the argument or result
  int id;             // number in print order; assigned by muse_func_number; -1 until then
} MuseValue;

// Which part of a training step an op belongs to; set by builder and autodiff, used by remat and the reports.
typedef enum MuseStage { MUSE_STAGE_NONE, MUSE_STAGE_FORWARD, MUSE_STAGE_BACKWARD, MUSE_STAGE_UPDATE } MuseStage;

struct MuseOp {
  MuseOpKind kind;
  int n_operands, n_results;
  MuseValue **operands;
  MuseValue **results;
  MuseAttrList attrs;
  MuseRegion *body; // kernel only
  MuseLoc loc;      // line and key of the configuration; file is the module's source
  int layer;        // -1: none
  MuseStage stage;
  int64_t mark;     // scratch of the running pass; not printed, not cloned
  MuseOp *prev, *next;
  MuseRegion *region; // where it stands
};

struct MuseRegion {
  MuseValue **args;
  MuseAttrList *arg_attrs; // one list an argument (functions only), else NULL
  int n_args, cap_args;
  MuseOp *first, *last;
  MuseOp *owner; // the kernel op, or NULL for a function body
  // Of muse_func_arg_for_buffer: a hash table of the first n_known arguments by the names of their buffers.
  int *slots; // index + 1 of the argument, 0: free
  int n_slots, n_known;
};

// A persistent tensor of the plan: parameter, moment, packed weight, constant table, input, output. Functions bind
// arguments and results to buffers by name.
typedef struct MuseBuffer {
  const char *name;
  MuseType type;
  int index;          // in the module's list
  const char *role;   // "param" "scale" "moment" "packed" "const" "grad" "input" "hyper" "output" "state"
  MuseAttrList attrs; // init, std, layer, decay, ...
} MuseBuffer;

typedef struct MuseFunc {
  const char *name; // "grad", printed @grad
  MuseRegion body;  // argument attributes: buffer="name"; the last op is `return`
  MuseAttrList attrs;
  MuseAttrList *result_attrs; // one list an operand of `return`: buffer="name" (written there), or name="...";
                              // n_results follows the `return` op when that is inserted or gets new operands
  int n_results;
  MuseValue **operands_room; // of muse_func_add_result, for cap_results: those of `return` and result_attrs, while they
  MuseAttrList *attrs_room;  // are these
  int cap_results;
  struct MuseModule *module;
  struct MuseFunc *next;
} MuseFunc;

typedef struct MuseModule {
  MuseArena *arena;
  const char *source;  // configuration file, or ""
  MuseAttrList attrs;  // level="tensor"|"kernel", options, sizes
  MuseBuffer **buffers;
  int n_buffers, cap_buffers;
  MuseMap *buffer_by_name;
  MuseFunc *first_func, *last_func;
} MuseModule;

// --- attributes ---
const MuseAttr *muse_attr_find(const MuseAttrList *list, const char *name);
void muse_attr_set_int(MuseModule *m, MuseAttrList *list, const char *name, int64_t value); // all setters replace
void muse_attr_set_real(MuseModule *m, MuseAttrList *list, const char *name, double value);
void muse_attr_set_bool(MuseModule *m, MuseAttrList *list, const char *name, bool value);
void muse_attr_set_text(MuseModule *m, MuseAttrList *list, const char *name, const char *value);
void muse_attr_set_ints(MuseModule *m, MuseAttrList *list, const char *name, const int64_t *data, int len);
void muse_attr_set_dtype(MuseModule *m, MuseAttrList *list, const char *name, MuseDtype value);
void muse_attr_remove(MuseAttrList *list, const char *name);
void muse_attr_copy(MuseModule *m, MuseAttrList *to, const MuseAttrList *from); // adds all, replacing equal names
bool muse_attr_eq(const MuseAttr *a, const MuseAttr *b);
// Getters abort when the attribute is missing or of another kind (the verifier has checked); _or gives a default.
int64_t muse_attr_int(const MuseAttrList *list, const char *name);
int64_t muse_attr_int_or(const MuseAttrList *list, const char *name, int64_t fallback);
double muse_attr_real(const MuseAttrList *list, const char *name);
double muse_attr_real_or(const MuseAttrList *list, const char *name, double fallback);
bool muse_attr_bool_or(const MuseAttrList *list, const char *name, bool fallback);
const char *muse_attr_text_or(const MuseAttrList *list, const char *name, const char *fallback);
const MuseAttr *muse_attr_ints(const MuseAttrList *list, const char *name);
MuseDtype muse_attr_dtype(const MuseAttrList *list, const char *name);
// The same for an op, with the default of ops.def when the attribute is absent.
int64_t muse_op_int(const MuseOp *op, const char *name);
double muse_op_real(const MuseOp *op, const char *name);
bool muse_op_bool(const MuseOp *op, const char *name);
const char *muse_op_text(const MuseOp *op, const char *name);
MuseDtype muse_op_dtype(const MuseOp *op, const char *name);

// --- modules, functions, buffers ---
MuseModule *muse_module_create(const char *source);
void muse_module_destroy(MuseModule *module);
MuseFunc *muse_func_create(MuseModule *module, const char *name); // appended
MuseFunc *muse_module_func(const MuseModule *module, const char *name); // NULL when absent
void muse_module_remove_func(MuseModule *module, MuseFunc *func);
// The name must be new.
MuseBuffer *muse_module_add_buffer(MuseModule *module, const char *name, MuseType type, const char *role);
// Keeps only the listed buffers, in this order.
void muse_module_set_buffers(MuseModule *module, MuseBuffer *const *buffers, int n);
MuseBuffer *muse_module_buffer(const MuseModule *module, const char *name); // NULL when absent; hashed
MuseValue *muse_region_add_arg(MuseModule *module, MuseRegion *region, MuseType type);
// The argument bound to the buffer, or a new one.
MuseValue *muse_func_arg_for_buffer(MuseFunc *func, const MuseBuffer *buffer);
const char *muse_func_arg_buffer(const MuseFunc *func, int index);    // NULL when unbound
const char *muse_func_result_buffer(const MuseFunc *func, int index); // NULL when unbound
// The value becomes one more operand of `return`, written to that buffer.
void muse_func_add_result(MuseFunc *func, MuseValue *value, const char *buffer);
void muse_func_set_result_buffer(MuseFunc *func, int index, const char *buffer);

// --- ops in regions ---
// Creates an op with results of the given types, not yet inserted. Operand array is copied.
MuseOp *muse_op_create(MuseModule *module, MuseOpKind kind, int n_operands, MuseValue *const *operands, int n_results,
                       const MuseType *result_types);
void muse_op_insert_before(MuseOp *op, MuseOp *before);
void muse_op_append(MuseOp *op, MuseRegion *region);
void muse_op_unlink(MuseOp *op);
MuseRegion *muse_op_create_body(MuseModule *module, MuseOp *op);
void muse_op_add_result(MuseModule *module, MuseOp *op, MuseType type);
void muse_op_set_operands(MuseModule *module, MuseOp *op, int n, MuseValue *const *operands);
// Replaces every use of `from` in the region (and nested regions) by `to`.
void muse_replace_uses(MuseRegion *region, MuseValue *from, MuseValue *to);
// Many replacements in one walk: map[v->id] after muse_func_number; NULL keeps. All at once: map is not applied to what
// it gives.
void muse_replace_uses_by_id(MuseRegion *region, MuseValue *const *map, int n_ids);

// Numbers all values of the function (arguments first, nested regions in place) and returns the count.
int muse_func_number(MuseFunc *func);
// Number of uses of each value by id (after muse_func_number); nested uses count. In the arena given.
int *muse_func_use_counts(MuseFunc *func, MuseArena *arena, int n_ids);

// Clones an op (and its body) in front of `before` or at the end of `region` (before NULL); operands are mapped through
// map[id] when the entry is set, results are recorded in map. All values of the source function are numbered
// beforehand.
MuseOp *muse_op_clone(MuseModule *module, const MuseOp *op, MuseValue **map, MuseRegion *region, MuseOp *before);
MuseFunc *muse_func_clone(MuseModule *module, MuseFunc *func, const char *name); // within one module, appended
MuseModule *muse_module_clone(const MuseModule *module);

#endif
