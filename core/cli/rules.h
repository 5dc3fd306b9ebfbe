/* rules.h - the alerting rules that the tool prints, as a table. */
#ifndef MG_CLI_RULES_H
#define MG_CLI_RULES_H

/** X(group, alert, kind, severity, for, expression, summary, description)
 *
 *  `kind` is the anchor of the runbook: that of alert.h where memguard has the same
 *  alert itself. In expressions @RSS@ stands for bytes. The text of a description
 *  says what was seen, then what to do. */
#define RULES_WHO "{{ $labels.program }} ({{ $labels.pid }})"
#define RULES_SERVICE "{{ $labels.program }} ({{ $labels.runtime }})"
/* V8's phases are parts of its other collections. */
#define RULES_WHOLE "{kind!~\"incremental_marking|weak_callbacks\"}"

#define RULES_MAP(X)                                                           \
  X("memguard-memory", "MemguardHighUsage", "high_usage", "warning", "5m",     \
    "memguard_memory_usage_ratio > 0.80",                                      \
    "Memory use of " RULES_WHO " is high",                                     \
    "{{ $value | humanizePercentage }} of the nearest limit is used. "         \
    "`memguard stats {{ $labels.pid }}` tells by what.")                       \
  X("memguard-memory", "MemguardCriticalUsage", "critical", "critical", "2m",  \
    "memguard_memory_usage_ratio > 0.90",                                      \
    "Memory use of " RULES_WHO " is critical",                                 \
    "{{ $value | humanizePercentage }} of the nearest limit is used. "         \
    "`memguard optimize {{ $labels.pid }}` frees what can be freed now.")      \
  X("memguard-memory", "MemguardResidentHigh", "resident_high", "warning",     \
    "5m", "memguard_process_resident_memory_bytes > @RSS@",                    \
    "Resident memory of " RULES_WHO " is high",                                \
    "{{ $value | humanize1024 }}B are resident. `memguard snapshot "           \
    "{{ $labels.pid }}` tells what it holds.")                                 \
  X("memguard-memory", "MemguardExhaustionPredicted", "exhaustion", "warning", \
    "10m",                                                                     \
    "predict_linear(memguard_memory_limit_used_bytes{domain!=\"machine\"}"     \
    "[30m], 4 * 3600)\n"                                                       \
    "  > memguard_memory_limit_bytes\n"                                        \
    "and deriv(memguard_memory_limit_used_bytes[30m]) * 1800\n"                \
    "  > 0.02 * memguard_memory_limit_bytes\n"                                 \
    "and memguard_memory_limit_used_bytes\n"                                   \
    "  > 0.5 * memguard_memory_limit_bytes",                                   \
    "Memory of " RULES_WHO " will be used up within four hours",               \
    "As it grew in the last half hour, its use of the limit "                  \
    "\"{{ $labels.domain }}\" will be {{ $value | humanize1024 }}B then, "     \
    "which is above it. `memguard snapshot {{ $labels.pid }}` tells what "     \
    "it holds.")                                                               \
  X("memguard-memory", "MemguardRapidGrowth", "rapid_growth", "info", "10m",   \
    "memguard_resident_memory_growth_bytes_per_second * 60 / 1048576 > 0.5",   \
    "Resident memory of " RULES_WHO " keeps growing",                          \
    "It grew by {{ printf \"%.1f\" $value }} MB a minute over the last ten "     \
    "minutes.")                                                                \
  X("memguard-memory", "MemguardNativeGrowth", "divergence", "warning", "15m", \
    "(deriv(memguard_process_resident_memory_bytes[1h])\n"                     \
    "  - clamp_min(deriv(memguard_heap_reserved_bytes[1h]), 0)) * 3600\n"      \
    "  > 67108864\n"                                                           \
    "and deriv(memguard_process_resident_memory_bytes[1h])\n"                  \
    "  > 4 * deriv(memguard_heap_reserved_bytes[1h])",                         \
    "Resident memory of " RULES_WHO " grows and its heap does not",            \
    "{{ $value | humanize1024 }}B an hour are not the heap's: native code, "   \
    "buffers, or memory that the C allocator does not give back.")             \
  X("memguard-gc", "MemguardGcCpuHigh", "gc_high", "warning", "3m",            \
    "sum without (kind) (rate(memguard_gc_pause_seconds_sum" RULES_WHOLE       \
    "[5m]))\n"                                                                 \
    "  / rate(memguard_process_cpu_seconds_total[5m]) > 0.10\n"                \
    "and rate(memguard_process_cpu_seconds_total[5m]) > 0.01",                 \
    "Collections take much of the CPU time of " RULES_WHO,                     \
    "{{ $value | humanizePercentage }} of its CPU time went into garbage "     \
    "collections. `memguard gc-profile {{ $labels.pid }}` tells what to set.") \
  X("memguard-gc", "MemguardGcPauseLong", "long_pause", "warning", "2m",       \
    "histogram_quantile(0.95, sum without (kind)\n"                            \
    "  (rate(memguard_gc_pause_seconds_bucket" RULES_WHOLE "[5m]))) > 0.1",     \
    "Collections stop " RULES_WHO " for long",                                 \
    "One in twenty took {{ $value | humanizeDuration }} or longer. "           \
    "`memguard gc-profile {{ $labels.pid }}` tells what to set.")              \
  X("memguard-leaks", "MemguardLeak", "memory_leak", "warning", "5m",          \
    "min_over_time(memguard_heap_objects[5m])\n"                               \
    "  > max_over_time(memguard_heap_objects[5m] offset 5m1s)\n"               \
    "and deriv(memguard_heap_objects[10m]) * 600\n"                            \
    "  > 0.01 * memguard_heap_objects",                                        \
    "Objects on the heap of " RULES_WHO " become more and more",               \
    "For ten minutes there were never as few as before: {{ $value | "          \
    "humanize }} at least. `memguard snapshot {{ $labels.pid }}` names types.") \
  X("memguard-leaks", "MemguardHeapLeak", "memory_leak", "warning", "5m",      \
    "min_over_time(memguard_heap_allocated_bytes[15m])\n"                      \
    "  > max_over_time(memguard_heap_allocated_bytes[15m] offset 15m1s)\n"       \
    "and deriv(memguard_heap_allocated_bytes[30m]) * 1800\n"                   \
    "  > 0.05 * memguard_heap_allocated_bytes",                                \
    "The heap of " RULES_WHO " becomes larger and larger",                     \
    "For half an hour it was never as small as before: {{ $value | "           \
    "humanize1024 }}B at least. `memguard snapshot {{ $labels.pid }}` "        \
    "names types.")                                                            \
  X("memguard-leaks", "MemguardFdGrowth", "fd_leak", "warning", "3m",          \
    "delta(memguard_process_open_fds[5m]) > 50",                               \
    "Open descriptors of " RULES_WHO " become more",                           \
    "{{ $value | humanize }} more in five minutes.")                           \
  X("memguard-leaks", "MemguardFdHigh", "fd_leak", "warning", "5m",            \
    "memguard_process_open_fds > 800",                                         \
    "Open descriptors of " RULES_WHO " are many",                              \
    "{{ $value }} are open.")                                                  \
  X("memguard-leaks", "MemguardPoolRentals", "pool_rentals", "info", "10m",    \
    "memguard_pool_suspected_rentals > 0",                                     \
    "Pooled buffers of " RULES_WHO " look forgotten",                          \
    "{{ $value }} were rented and not given back for long.")                   \
  X("memguard-processes", "MemguardOomKilled", "previous_oom", "critical", "", \
    "increase(memguard_process_ends_total{verdict=\"OOM likely\"}[10m]) > 0\n" \
    "or (memguard_process_ends_total{verdict=\"OOM likely\"} > 0\n"            \
    "  unless memguard_process_ends_total{verdict=\"OOM likely\"} "            \
    "offset 10m)",                                                             \
    "A process of " RULES_SERVICE " was killed for memory",                    \
    "It ended without notice, at its memory limit or together with an OOM "    \
    "kill. `memguard postmortem` shows its last minutes.")                     \
  X("memguard-processes", "MemguardKilled", "killed", "warning", "",           \
    "increase(memguard_process_ends_total"                                     \
    "{verdict=\"killed, not memory\"}[10m]) > 0\n"                             \
    "or (memguard_process_ends_total{verdict=\"killed, not memory\"} > 0\n"    \
    "  unless memguard_process_ends_total"                                     \
    "{verdict=\"killed, not memory\"} offset 10m)",                            \
    "A process of " RULES_SERVICE " was killed",                               \
    "It ended without notice, with memory to spare. `memguard postmortem` "    \
    "shows its last minutes.")                                                 \
  X("memguard-processes", "MemguardServiceDown", "service_down", "warning",    \
    "15m",                                                                     \
    "max without (pid) (memguard_process_up) == 0",                            \
    "No process of " RULES_SERVICE " lives",                                   \
    "All that showed themselves have ended, the last one not in an orderly "   \
    "way. `memguard postmortem` tells why.")                                   \
  X("memguard-processes", "MemguardStale", "stale", "warning", "2m",           \
    "time() - memguard_process_sample_timestamp_seconds > 180\n"               \
    "and memguard_process_up == 1",                                            \
    "" RULES_WHO " lives and shows nothing new",                               \
    "Its last sample is {{ $value | humanizeDuration }} old: it is stopped, "  \
    "or the machine is out of breath.")                                        \
  X("memguard-processes", "MemguardExporterDown", "exporter_down", "warning",  \
    "2m", "up{job=~\"memguard.*\"} == 0",                                      \
    "memguard at {{ $labels.instance }} cannot be scraped",                    \
    "Nothing is known of the processes there.")

#endif
