/* web_parts.h - what the files of the HTTP site share. */
#ifndef MG_CORE_WEB_PARTS_H
#define MG_CORE_WEB_PARTS_H

#include "json.h"
#include "memguard/metrics.h"
#include "memguard/web.h"

#define MG__WEB_HOST_BYTES 128u

struct mg_web {
  char token[MG_WEB_TOKEN_MAX + 1];
  bool read_needs_token, is_fleet, has_any_host;
  size_t host_count;
  char host[MG_WEB_HOSTS][MG__WEB_HOST_BYTES];
  double ready_below_percent;
  uint64_t write_us, burst_us; /* between two writes; what may come early */
  _Atomic uint64_t write_due_us; /* when the bucket of writes is empty */
};

/** A part of a text. */
typedef struct mg__slice {
  const char *at;
  size_t bytes;
} mg__slice;

/* ---- web_response.c ------------------------------------------------------- */

/** An empty response with the headers that all have. */
void mg__web_begin(mg_web_response *out, uint32_t status, bool is_head,
                   const char *type);
void mg__web_add(mg_web_response *out, const char *name, const char *value);
/** Gives a response a body of its own; NULL: there was no memory for it. */
void mg__web_own(mg_web_response *out, char *body, size_t bytes);
/** Ends the writing into the body of a response of type JSON. */
void mg__web_finish(mg_web_response *out, uint32_t status, bool is_head,
                    mg__json *json);
/** {"error": text} in one line. */
void mg__web_error(mg_web_response *out, uint32_t status, bool is_head,
                   const char *format, ...) MG_PRINTF(4, 5);

/* ---- web_request.c -------------------------------------------------------- */

mg__slice mg__slice_of(const char *text);
/** Without spaces and tabs at both ends. */
mg__slice mg__slice_trim(mg__slice span);
/** ASCII, in any case. */
bool mg__slice_is(mg__slice span, const char *text);
/** Finds a header. @return its value, trimmed; `at` is NULL if there is none.
 *  @param out_count [may be NULL] how many lines of that name there are. */
mg__slice mg__web_header(const mg_web_request *request, const char *name,
                        size_t *out_count);
/** The name of a Host header; `at` is NULL if it is none. */
mg__slice mg__web_host_name(mg__slice host);
/** Whether an Accept header prefers OpenMetrics to plain text. */
bool mg__web_prefers_openmetrics(const mg_web_request *request);
/** Reads the query into the job, as far as its route has such keys.
 *  @return false: `err` says what is wrong. */
bool mg__web_read_query(mg_web_job *job, mg__slice query, mg_error *err);

/* ---- web_guard.c ---------------------------------------------------------- */

/** Who may: Host and Origin; token and X-Memguard; how often. `out->response` is
 *  written where they return false. */
bool mg__web_admits_site(const mg_web *web, const mg_web_request *request,
                         mg_web_job *out);
bool mg__web_admits_user(const mg_web *web, const mg_web_request *request,
                         bool is_write, mg_web_job *out);
bool mg__web_admits_write(mg_web *web, double clock_ms, mg_web_job *out);

/* ---- web_process.c -------------------------------------------------------- */

void mg__web_write_process(mg__json *json, const char *key,
                           const mg_metrics_process *process);
/** The alerts that fire, of one kind or (-1) of all. */
void mg__web_write_active(mg__json *json, const char *key,
                          const mg_segment_alerts *alerts, int kind);
/** Whether it is live, at level normal and without a warning. */
bool mg__web_is_well(const mg_metrics_process *process, uint64_t unix_ms);
/** Whether its sampler is as punctual as it said. */
bool mg__web_is_live(const mg_metrics_process *process, uint64_t unix_ms);

/* ---- web_record.c: what the recorder keeps -------------------------------- */

void mg__web_write_history(mg__json *json, const mg_metrics_process *process,
                           const mg_web_job *job);
void mg__web_write_alerts(mg__json *json, const mg_metrics_process *process);
void mg__web_write_optimizations(mg__json *json,
                                 const mg_metrics_process *process);
void mg__web_write_leaks(mg__json *json, const mg_metrics_process *process);

#endif
