/* detector_advice.c - the command that looks deeper into a finding. Pure but for
 * the process id.
 *
 * `{pid}` and `{type}` stand for the process and the type that grows most; a line
 * with `{type}` is left out unless that is a plain name, for it goes into code. */
#include "memguard/detector.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define ADVICE_LINES 4

#define ADVICE_BACKREFS                                       \
  "in the process: import objgraph; objgraph.show_backrefs("  \
  "objgraph.by_type('{type}')[-3:], filename='backrefs-{pid}.png')"

static const char *const advice_python_heap[ADVICE_LINES] = {
    "python -m memray attach --trace-python-allocators --duration 60 "
    "-o memray-{pid}.bin {pid} && sleep 65 && "
    "python -m memray flamegraph --leaks memray-{pid}.bin",
    ADVICE_BACKREFS,
    "py-spy dump --pid {pid}"};

static const char *const advice_python_native[ADVICE_LINES] = {
    "python -m memray attach --native --duration 60 -o memray-{pid}.bin {pid} "
    "&& sleep 65 && python -m memray flamegraph --leaks memray-{pid}.bin",
    "pmap -x {pid} | sort -k 3 -n | tail"};

static const char *const advice_node_heap[ADVICE_LINES] = {
    "in the process, three times: require('node:v8').writeHeapSnapshot("
    "'{pid}-1.heapsnapshot') ('{pid}-2...', '{pid}-3...'); then: npx memlab "
    "find-leaks --baseline {pid}-1.heapsnapshot --target {pid}-2.heapsnapshot "
    "--final {pid}-3.heapsnapshot",
    "kill -USR1 {pid} && node inspect -p {pid}"};

static const char *const advice_node_native[ADVICE_LINES] = {
    "heaptrack --pid {pid}", "pmap -x {pid} | sort -k 3 -n | tail"};

static const char *const advice_fds[ADVICE_LINES] = {
    "lsof -nP -p {pid}",
    "ls -l /proc/{pid}/fd | awk '{print $NF}' | sort | uniq -c | sort -n | "
    "tail"};

static const char *const advice_sockets[ADVICE_LINES] = {
    "lsof -nP -a -i -p {pid}", "lsof -nP -a -U -p {pid}"};

static const char *const advice_python_threads[ADVICE_LINES] = {
    "py-spy dump --pid {pid}",
    "cat /proc/{pid}/task/*/comm | sort | uniq -c | sort -n"};

static const char *const advice_node_threads[ADVICE_LINES] = {
    "cat /proc/{pid}/task/*/comm | sort | uniq -c | sort -n"};

static const char *const advice_mappings[ADVICE_LINES] = {
    "pmap -x {pid} | sort -k 3 -n | tail"};

static const char *const advice_rentals[ADVICE_LINES] = {
    "start it with MEMGUARD_POOL_LEAK_CHECK=paranoid: each rental then has its "
    "site"};

static const char *const *advice_lines(uint32_t series, bool is_python) {
  switch (series) {
    case MG_LEAK_NATIVE:
    case MG_LEAK_RSS:
      return is_python ? advice_python_native : advice_node_native;
    case MG_LEAK_FDS:
    case MG_LEAK_FD_PIPES:
    case MG_LEAK_FD_FILES:
    case MG_LEAK_FD_OTHERS:
      return advice_fds;
    case MG_LEAK_FD_SOCKETS:
    case MG_LEAK_CONNECTIONS:
      return advice_sockets;
    case MG_LEAK_THREADS:
      return is_python ? advice_python_threads : advice_node_threads;
    case MG_LEAK_MAPPINGS: return advice_mappings;
    case MG_LEAK_RENTALS: return advice_rentals;
    default: /* heap, code, blocks, handles, counters: objects of the runtime */
      return is_python ? advice_python_heap : advice_node_heap;
  }
}

static bool advice_is_plain(const char *name) {
  static const char allowed[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.";

  return name[0] != '\0' && name[strspn(name, allowed)] == '\0';
}

/* @return "" if no type is known, or its name is not plain. */
static const char *advice_type(const mg_detector_finding *finding) {
  for (uint32_t i = 0; i < finding->culprits && i < MG_CULPRITS_MAX; i++) {
    const mg_culprit *culprit = &finding->culprit[i];
    if (culprit->kind == MG_CULPRIT_TYPE)
      return advice_is_plain(culprit->name) ? culprit->name : "";
  }
  return "";
}

static bool advice_starts(const char *text, const char *with) {
  return strncmp(text, with, strlen(with)) == 0;
}

static void advice_fill(const char *line, const char *type,
                        char out[MG_ADVICE_BYTES]) {
  size_t at = 0;
  char pid[16];

  snprintf(pid, sizeof pid, "%ld", (long)getpid());
  while (*line != '\0' && at + 1 < MG_ADVICE_BYTES) {
    const char *value = NULL;
    if (advice_starts(line, "{pid}")) value = pid;
    if (advice_starts(line, "{type}")) value = type;
    if (value == NULL) {
      out[at++] = *line++;
      continue;
    }
    line = strchr(line, '}') + 1;
    at += (size_t)snprintf(out + at, MG_ADVICE_BYTES - at, "%s", value);
    if (at >= MG_ADVICE_BYTES) at = MG_ADVICE_BYTES - 1;
  }
  out[at] = '\0';
}

bool mg_detector_advice(const mg_detector_finding *finding,
                        mg_runtime_kind runtime, size_t index,
                        char out[MG_ADVICE_BYTES]) {
  const char *type = advice_type(finding);
  const char *const *lines =
      advice_lines(finding->leak.series, runtime == MG_RUNTIME_PYTHON);

  out[0] = '\0';
  for (size_t i = 0; i < ADVICE_LINES && lines[i] != NULL; i++) {
    if (type[0] == '\0' && strstr(lines[i], "{type}") != NULL) continue;
    if (index-- > 0) continue;
    advice_fill(lines[i], type, out);
    return true;
  }
  return false;
}
