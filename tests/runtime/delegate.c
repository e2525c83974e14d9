// SPDX-License-Identifier: Apache-2.0
// A delegate library to test with. BEHAVIOUR: 0 computes every network as the constant ANSWER,
// 1 takes no operation, 2 cannot be had on this machine, 3 fails when it is run.
//
// The declarations are the first fields of TensorFlow Lite's C interface (lite/core/c/common.h),
// whose order is fixed.
#include <stddef.h>
#include <stdint.h>

#ifndef ANSWER
#define ANSWER 1.5f
#endif

typedef struct { int size; int data[]; } IntArray;

typedef struct {
    int type;
    float *data;
    void *dims;
    float scale;
    int32_t zero_point;
    int allocation_type;
    size_t bytes;
    void *allocation, *name, *delegate;
    int buffer_handle;
    _Bool is_stale, is_variable;
    struct { int type; void *params; } quantization;
    void *sparsity, *dims_signature;
} Tensor;

typedef struct { IntArray *inputs, *outputs; } Node;

struct Context;

typedef struct {
    void *(*init)(struct Context *, const char *, size_t);
    void (*free)(struct Context *, void *);
    int (*prepare)(struct Context *, Node *);
    int (*invoke)(struct Context *, Node *);
    void *profiling_string;
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *later_fields[8];
} Registration;

typedef struct Delegate {
    void *data;
    int (*prepare)(struct Context *, struct Delegate *);
    void *copy_from, *copy_to, *free_handle;
    int64_t flags;
    void *builder;
} Delegate;

typedef struct Context {
    size_t tensors_size;
    int (*execution_plan)(struct Context *, IntArray **);
    Tensor *tensors;
    void *impl, *resize, *report, *add_tensors, *node;
    int (*replace)(struct Context *, Registration, const IntArray *, Delegate *);
} Context;

static int prepare_kernel(Context *context, Node *node) { return 0; }

static int invoke_kernel(Context *context, Node *node) {
    context->tensors[node->outputs->data[0]].data[0] = ANSWER;
    return BEHAVIOUR == 3;
}

static int prepare(Context *context, Delegate *delegate) {
    Registration kernel = {.prepare = prepare_kernel, .invoke = invoke_kernel, .version = 1};
    IntArray *nodes;
    if (BEHAVIOUR == 1) return 0;
    kernel.custom_name = "constant";
    return context->execution_plan(context, &nodes)
        || context->replace(context, kernel, nodes, delegate);
}

__attribute__((visibility("default"))) Delegate *tflite_plugin_create_delegate(
    char **keys, char **values, size_t options, void (*report)(const char *)) {
    static Delegate delegate = {.prepare = prepare};
    if (BEHAVIOUR == 2) {
        report("no such device here");
        return NULL;
    }
    return &delegate;
}

__attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(Delegate *delegate) {}
