// SPDX-License-Identifier: Apache-2.0

#include "threads.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

size_t ce_threads(size_t wanted, size_t pieces) {
    const size_t most = pieces < CE_MOST_THREADS ? pieces : CE_MOST_THREADS;
    return wanted < 1 ? 1 : wanted < most ? wanted : most;
}

typedef struct {
    void (*work)(void *context, size_t thread, size_t begin, size_t end);
    void *context;
    size_t thread, begin, end;
} share;

static void *run(void *argument) {
    const share *s = argument;
    s->work(s->context, s->thread, s->begin, s->end);
    return NULL;
}

void ce_parallel(size_t threads, size_t count,
                 void (*work)(void *context, size_t thread, size_t begin, size_t end),
                 void *context) {
    share shares[CE_MOST_THREADS];
    size_t begin = 0;
    for (size_t t = 0; t < threads; t++) {
        const size_t end = begin + (count - begin) / (threads - t);
        shares[t] = (share){work, context, t, begin, end};
        begin = end;
    }
#if defined(_WIN32)
    for (size_t t = 0; t < threads; t++) run(&shares[t]);
#else
    pthread_t started[CE_MOST_THREADS];
    size_t last = threads;  // shares from here on have a thread; this one does the others
    while (last > 1 && pthread_create(&started[last - 1], NULL, run, &shares[last - 1]) == 0)
        last--;
    for (size_t t = 0; t < last; t++) run(&shares[t]);
    for (size_t t = last; t < threads; t++) pthread_join(started[t], NULL);
#endif
}
