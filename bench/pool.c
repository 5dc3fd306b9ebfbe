/* pool.c - renting from pools of the shared library, beside malloc and mimalloc.
 *
 * Prints one line per figure: NAME OURS_NS PEER_NS PEER. Each is the median of its
 * rounds; rounds of one thread are taken in turns with those of the peer. The peers
 * do the same work through the same loop. mimalloc is opened by name, so that it
 * does not take malloc's place. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "median.h"
#include "memguard.h"

#define BENCH_ROUNDS 41
#define BENCH_PAGE 4096u
#define BENCH_BATCH 1024u

static mg_pool *pool;
static void *(*mi_take)(size_t bytes);
static void (*mi_give)(void *block);

static double now_ns(void) { return (double)mg_clock_ns(); }

/* ---- one thread ------------------------------------------------------------- */

/* Does `calls` pairs of `bytes`. */
typedef void (*workload)(size_t bytes, int calls);

static void pool_pairs(size_t bytes, int calls) {
  mg_rental rental;

  for (int i = 0; i < calls; i++) {
    if (mg_pool_rent(&rental, pool, bytes, NULL) != MG_OK) abort();
    if (mg_pool_return(pool, rental.handle, NULL) != MG_OK) abort();
  }
}

static void malloc_pairs(size_t bytes, int calls) {
  for (int i = 0; i < calls; i++) {
    void *volatile block = malloc(bytes); /* volatile: or it is left out */
    free(block);
  }
}

static void mimalloc_pairs(size_t bytes, int calls) {
  for (int i = 0; i < calls; i++) {
    void *volatile block = mi_take(bytes);
    mi_give(block);
  }
}

static void touch(void *data, size_t bytes) {
  for (size_t at = 0; at < bytes; at += BENCH_PAGE)
    ((volatile unsigned char *)data)[at] = 1;
}

static void pool_touched(size_t bytes, int calls) {
  mg_rental rental;

  for (int i = 0; i < calls; i++) {
    if (mg_pool_rent(&rental, pool, bytes, NULL) != MG_OK) abort();
    touch(rental.data, bytes);
    mg_pool_return(pool, rental.handle, NULL);
  }
}

static void malloc_touched(size_t bytes, int calls) {
  for (int i = 0; i < calls; i++) {
    void *block = malloc(bytes);
    touch(block, bytes);
    free(block);
  }
}

static void mimalloc_touched(size_t bytes, int calls) {
  for (int i = 0; i < calls; i++) {
    void *block = mi_take(bytes);
    touch(block, bytes);
    mi_give(block);
  }
}

/* BENCH_BURST at a time, as when messages wait for one another. */
#define BENCH_BURST 8

static void pool_bursts(size_t bytes, int calls) {
  mg_rental rental[BENCH_BURST];

  for (int i = 0; i < calls; i += BENCH_BURST) {
    if (mg_pool_rent_many(rental, BENCH_BURST, pool, bytes, NULL) != MG_OK)
      abort();
    for (int k = 0; k < BENCH_BURST; k++) touch(rental[k].data, bytes);
    for (int k = 0; k < BENCH_BURST; k++)
      mg_pool_return(pool, rental[k].handle, NULL);
  }
}

static void malloc_bursts(size_t bytes, int calls) {
  void *block[BENCH_BURST];

  for (int i = 0; i < calls; i += BENCH_BURST) {
    for (int k = 0; k < BENCH_BURST; k++) touch(block[k] = malloc(bytes), bytes);
    for (int k = 0; k < BENCH_BURST; k++) free(block[k]);
  }
}

static void mimalloc_bursts(size_t bytes, int calls) {
  void *block[BENCH_BURST];

  for (int i = 0; i < calls; i += BENCH_BURST) {
    for (int k = 0; k < BENCH_BURST; k++) touch(block[k] = mi_take(bytes), bytes);
    for (int k = 0; k < BENCH_BURST; k++) mi_give(block[k]);
  }
}

static double round_ns(workload work, size_t bytes, int calls) {
  double began = now_ns();

  work(bytes, calls);
  return (now_ns() - began) / calls;
}

static void compare_works(const char *name, workload ours, workload peer,
                          const char *peer_name, size_t bytes, int calls) {
  double ns[2][BENCH_ROUNDS];

  ours(bytes, calls);
  peer(bytes, calls);
  for (int i = 0; i < BENCH_ROUNDS; i++) {
    ns[0][i] = round_ns(ours, bytes, calls);
    ns[1][i] = round_ns(peer, bytes, calls);
  }
  printf("%s %.2f %.2f %s\n", name, bench_median(ns[0], BENCH_ROUNDS),
         bench_median(ns[1], BENCH_ROUNDS), peer_name);
}

/* ---- one thread rents, another returns --------------------------------------- */

typedef enum across_kind { ACROSS_POOL, ACROSS_MALLOC, ACROSS_MIMALLOC } across_kind;

/* Two batches, handed over in turns: while one is being filled the other is
 * emptied. */
typedef struct across {
  across_kind kind;
  size_t bytes;
  pthread_barrier_t barrier;
  union {
    uint64_t handle[BENCH_BATCH];
    void *block[BENCH_BATCH];
  } batch[2];
  int rounds;
  double returned_ns; /* spent working, per buffer */
} across;

static void across_fill(across *a, int which) {
  static mg_rental rental[BENCH_BATCH];

  if (a->kind == ACROSS_POOL) {
    mg_pool_rent_many(rental, BENCH_BATCH, pool, a->bytes, NULL);
    for (unsigned i = 0; i < BENCH_BATCH; i++)
      a->batch[which].handle[i] = rental[i].handle;
    return;
  }
  for (unsigned i = 0; i < BENCH_BATCH; i++)
    a->batch[which].block[i] =
        a->kind == ACROSS_MALLOC ? malloc(a->bytes) : mi_take(a->bytes);
}

static void across_empty(across *a, int which) {
  if (a->kind == ACROSS_POOL) {
    mg_pool_return_many(pool, a->batch[which].handle, BENCH_BATCH, NULL, NULL);
    return;
  }
  for (unsigned i = 0; i < BENCH_BATCH; i++) {
    if (a->kind == ACROSS_MALLOC)
      free(a->batch[which].block[i]);
    else
      mi_give(a->batch[which].block[i]);
  }
}

/* A round: this thread empties what was filled in the round before. */
static void *across_return(void *ctx) {
  across *a = ctx;
  double ns[BENCH_ROUNDS * 16];

  for (int i = 0; i < a->rounds; i++) {
    double began;
    pthread_barrier_wait(&a->barrier);
    began = now_ns();
    if (i > 0) across_empty(a, (i - 1) % 2);
    ns[i] = (now_ns() - began) / BENCH_BATCH;
    pthread_barrier_wait(&a->barrier);
  }
  a->returned_ns = bench_median(ns, (size_t)a->rounds);
  return NULL;
}

/* What one buffer costs the thread that takes it and the one that gives it. */
typedef struct across_cost {
  double rent_ns, return_ns;
} across_cost;

static across_cost across_ns(across_kind kind, size_t bytes) {
  across *a = calloc(1, sizeof *a);
  double ns[BENCH_ROUNDS * 16];
  across_cost cost;
  pthread_t thread;

  if (a == NULL) abort();
  a->kind = kind;
  a->bytes = bytes;
  a->rounds = BENCH_ROUNDS * 16;
  pthread_barrier_init(&a->barrier, NULL, 2);
  if (pthread_create(&thread, NULL, across_return, a) != 0) abort();
  for (int i = 0; i < a->rounds; i++) {
    double began;
    pthread_barrier_wait(&a->barrier);
    began = now_ns();
    across_fill(a, i % 2);
    ns[i] = (now_ns() - began) / BENCH_BATCH;
    pthread_barrier_wait(&a->barrier);
  }
  pthread_join(thread, NULL);
  across_empty(a, (a->rounds - 1) % 2);
  cost = (across_cost){bench_median(ns, (size_t)a->rounds), a->returned_ns};
  pthread_barrier_destroy(&a->barrier);
  free(a);
  return cost;
}

static void show_across(const char *name, across_cost ours, across_cost peer,
                        const char *peer_name) {
  printf("%s.rent %.2f %.2f %s\n", name, ours.rent_ns, peer.rent_ns, peer_name);
  printf("%s.return %.2f %.2f %s\n", name, ours.return_ns, peer.return_ns,
         peer_name);
  printf("%s.both %.2f %.2f %s\n", name, ours.rent_ns + ours.return_ns,
         peer.rent_ns + peer.return_ns, peer_name);
}

static void compare_across(const char *name, size_t bytes) {
  across_cost ours = across_ns(ACROSS_POOL, bytes);

  show_across(name, ours, across_ns(ACROSS_MALLOC, bytes), "glibc-malloc");
  if (mi_take != NULL)
    show_across(name, ours, across_ns(ACROSS_MIMALLOC, bytes), "mimalloc");
}

static void compare_both(const char *name, workload ours, workload peers[2],
                         size_t bytes, int calls) {
  compare_works(name, ours, peers[0], "glibc-malloc", bytes, calls);
  if (mi_take != NULL)
    compare_works(name, ours, peers[1], "mimalloc", bytes, calls);
}

static void open_mimalloc(void) {
  void *library = dlopen("libmimalloc.so", RTLD_NOW | RTLD_LOCAL);
  void *take, *give;

  if (library == NULL) return;
  take = dlsym(library, "mi_malloc");
  give = dlsym(library, "mi_free");
  if (take == NULL || give == NULL) return;
  memcpy(&mi_take, &take, sizeof take);
  memcpy(&mi_give, &give, sizeof give);
}

int main(void) {
  workload pairs[2] = {malloc_pairs, mimalloc_pairs};
  workload touched[2] = {malloc_touched, mimalloc_touched};
  workload bursts[2] = {malloc_bursts, mimalloc_bursts};
  mg_config config;

  mg_config_init(&config, MG_PROFILE_DEFAULT);
  if (mg_pool_open(&pool, &config, NULL) != MG_OK) return 1;
  open_mimalloc();
  compare_both("pool.c.pair", pool_pairs, pairs, 64, 20000);
  compare_both("pool.c.pair.4k", pool_pairs, pairs, 4096, 20000);
  compare_both("pool.c.pair.64k", pool_pairs, pairs, 65536, 20000);
  compare_across("pool.c.across", 1024);
  compare_both("pool.c.touch.1m", pool_touched, touched, 1048576, 200);
  compare_both("pool.c.burst.1m", pool_bursts, bursts, 1048576, 64);
  compare_both("pool.c.touch.4m", pool_touched, touched, 4194304, 50);
  mg_pool_close(pool);
  return 0;
}
