/* top_screen.c - the live screen of `memguard top`, by ncurses.
 *
 * Keys: arrows, PgUp, PgDn, Home, End move; letters of the header sort, the
 * same one again turns the order; d shows the dead; g has the chosen process collect
 * garbage; space stops the picture; h or ? helps; q ends. */
#define _XOPEN_SOURCE_EXTENDED 1 /* for ncurses: wide characters */
#include <curses.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "top.h"

#define SCREEN_HEAD 3 /* lines above the rows */
#define SCREEN_GC_TIMEOUT_MS 5000.0

enum { SCREEN_PLAIN, SCREEN_GOOD, SCREEN_WARN, SCREEN_BAD, SCREEN_TITLE };

typedef struct screen {
  processes list;
  top_order order;
  bool with_dead, is_paused, is_ascii, has_help, is_over;
  size_t chosen, first; /* rows of the list */
  long chosen_pid;      /* stays chosen when the order changes */
  double interval_s;
  char message[160];
} screen;

/* ---- life ---------------------------------------------------------------------- */

static void screen_begin(screen *s) {
  setlocale(LC_CTYPE, "");
  s->is_ascii = strcmp(nl_langinfo(CODESET), "UTF-8") != 0;
  initscr();
  cbreak();
  noecho();
  curs_set(0);
  keypad(stdscr, true);
  /* Terminals that do not follow keypad(): else the escape would end it. */
  define_key("\033[A", KEY_UP);
  define_key("\033[B", KEY_DOWN);
  define_key("\033[H", KEY_HOME);
  define_key("\033[F", KEY_END);
  if (!has_colors() || !cli_has_colour()) return;
  start_color();
  use_default_colors();
  init_pair(SCREEN_GOOD, COLOR_GREEN, -1);
  init_pair(SCREEN_WARN, COLOR_YELLOW, -1);
  init_pair(SCREEN_BAD, COLOR_RED, -1);
  init_pair(SCREEN_TITLE, COLOR_CYAN, -1);
}

static void screen_follow_chosen(screen *s) {
  for (size_t i = 0; i < s->list.count; i++)
    if (s->list.item[i].header->pid == (uint32_t)s->chosen_pid) s->chosen = i;
  if (s->chosen >= s->list.count) s->chosen = s->list.count - (s->list.count > 0);
}

static void screen_order(screen *s) {
  top_sort(&s->list, s->order);
  screen_follow_chosen(s);
}

static int screen_read(screen *s) {
  processes list;
  int code = processes_read(&list, s->with_dead);

  if (code != CLI_OK) return code;
  processes_free(&s->list);
  s->list = list;
  screen_order(s);
  return CLI_OK;
}

/* ---- drawing --------------------------------------------------------------------- */

static int screen_colour(const process *one) {
  if (!one->is_alive) return SCREEN_PLAIN;
  switch (one->view.sample.level) {
    case MG_LEVEL_CRITICAL: return SCREEN_BAD;
    case MG_LEVEL_HIGH:
    case MG_LEVEL_ELEVATED: return SCREEN_WARN;
    default: return SCREEN_GOOD;
  }
}

static void screen_draw_head(const screen *s) {
  char rss[CLI_BYTES_TEXT];
  uint64_t sum = 0;
  size_t alive = 0;

  for (size_t i = 0; i < s->list.count; i++) {
    const process *one = &s->list.item[i];
    if (!one->is_alive) continue;
    alive++;
    if (one->view.sample.reading.rss_bytes != MG_ABSENT)
      sum += one->view.sample.reading.rss_bytes;
  }
  attron(A_BOLD | COLOR_PAIR(SCREEN_TITLE));
  mvprintw(0, 0, "memguard");
  attroff(A_BOLD | COLOR_PAIR(SCREEN_TITLE));
  printw("  %zu processes, %s resident%s   h help, q quit", alive,
         cli_bytes(rss, sum), s->is_paused ? ", stopped" : "");
  if (*s->message != '\0') mvprintw(1, 0, "%.*s", COLS, s->message);
}

static void screen_draw_titles(const screen *s) {
  int at = 0;

  attron(A_REVERSE);
  mvhline(SCREEN_HEAD - 1, 0, ' ', COLS);
  for (int column = 0; column < TOP_COLUMN_COUNT && at < COLS; column++) {
    bool is_sorted = (top_column)column == s->order.column;
    if (is_sorted) attron(A_BOLD);
    mvprintw(SCREEN_HEAD - 1, at, "%*.*s", top_columns[column].width, COLS - at,
             top_columns[column].header);
    if (is_sorted) attroff(A_BOLD);
    at += abs(top_columns[column].width) + 1;
  }
  attroff(A_REVERSE);
}

static void screen_draw_cell(int line, int at, int width, const char *text) {
  /* Padding first: what follows may take more bytes than columns. */
  mvhline(line, at, ' ', abs(width) < COLS - at ? abs(width) : COLS - at);
  if (width > 0 && (int)strlen(text) < width) at += width - (int)strlen(text);
  if (at < COLS) mvaddnstr(line, at, text, TOP_CELL);
}

static void screen_draw_row(const screen *s, size_t index, int line) {
  const process *one = &s->list.item[index];
  bool is_chosen = index == s->chosen;
  int at = 0;

  if (is_chosen) attron(A_REVERSE);
  if (!one->is_alive) attron(A_DIM);
  mvhline(line, 0, ' ', COLS);
  for (int column = 0; column < TOP_COLUMN_COUNT && at < COLS; column++) {
    bool is_coloured = column == TOP_USAGE || column == TOP_LEVEL;
    char cell[TOP_CELL];
    top_cell(cell, one, (top_column)column, s->is_ascii);
    if (is_coloured) attron(COLOR_PAIR(screen_colour(one)));
    screen_draw_cell(line, at, top_columns[column].width, cell);
    if (is_coloured) attroff(COLOR_PAIR(screen_colour(one)));
    at += abs(top_columns[column].width) + 1;
  }
  attrset(A_NORMAL);
}

static void screen_draw_help(void) {
  static const char *const lines[] = {
      "arrows, PgUp PgDn, Home End        choose a process",
      "m rss  e heap  n native  u usage   sort by it; the same key again turns",
      "l level  c collections  w pause    the order",
      "p pid  k kind  a program",
      "g   have the chosen process collect garbage",
      "d   show processes that ended      space  stop and go on",
      "h ? this help                      q  quit"};

  for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
    mvprintw(SCREEN_HEAD + 1 + (int)i, 2, "%.*s", COLS - 2, lines[i]);
}

static void screen_draw(screen *s) {
  size_t room = LINES > SCREEN_HEAD ? (size_t)(LINES - SCREEN_HEAD) : 0;

  erase();
  screen_draw_head(s);
  screen_draw_titles(s);
  if (s->chosen < s->first) s->first = s->chosen;
  if (room > 0 && s->chosen >= s->first + room) s->first = s->chosen - room + 1;
  if (s->has_help) {
    screen_draw_help();
  } else {
    for (size_t i = 0; i < room && s->first + i < s->list.count; i++)
      screen_draw_row(s, s->first + i, SCREEN_HEAD + (int)i);
    if (s->list.count == 0)
      mvprintw(SCREEN_HEAD, 0, "no process is under memguard; start one with "
                               "`memguard run -- COMMAND`");
  }
  refresh();
}

/* ---- keys -------------------------------------------------------------------------- */

static void screen_collect(screen *s) {
  mg_error err = MG_ERROR_INIT;
  const process *one;
  cJSON *answer;

  if (s->chosen >= s->list.count) return;
  one = &s->list.item[s->chosen];
  snprintf(s->message, sizeof s->message, "process %u collects...", one->header->pid);
  screen_draw(s);
  if (process_try_ask(&answer, one, "collect", "", SCREEN_GC_TIMEOUT_MS, &err))
    snprintf(s->message, sizeof s->message, "process %u has collected",
             one->header->pid);
  else
    snprintf(s->message, sizeof s->message, "process %u: %.120s", one->header->pid,
             err.text);
  cJSON_Delete(answer);
}

static void screen_sort_by(screen *s, int key) {
  for (int column = 0; column < TOP_COLUMN_COUNT; column++) {
    if (top_columns[column].key == 0 || top_columns[column].key != key) continue;
    s->order.is_reversed =
        s->order.column == (top_column)column && !s->order.is_reversed;
    s->order.column = (top_column)column;
    screen_order(s);
  }
}

static void screen_move(screen *s, long by) {
  long to = (long)s->chosen + by, last = (long)s->list.count - 1;

  if (s->list.count == 0) return;
  s->chosen = (size_t)(to < 0 ? 0 : to > last ? last : to);
  s->chosen_pid = (long)s->list.item[s->chosen].header->pid;
}

static void screen_press(screen *s, int key) {
  int page = LINES > SCREEN_HEAD + 1 ? LINES - SCREEN_HEAD - 1 : 1;

  *s->message = '\0';
  switch (key) {
    case 'q':
    case 27: s->is_over = true; break;
    case KEY_UP: screen_move(s, -1); break;
    case KEY_DOWN: screen_move(s, 1); break;
    case KEY_PPAGE: screen_move(s, -page); break;
    case KEY_NPAGE: screen_move(s, page); break;
    case KEY_HOME: screen_move(s, -(long)s->list.count); break;
    case KEY_END: screen_move(s, (long)s->list.count); break;
    case 'd': s->with_dead = !s->with_dead; screen_read(s); break;
    case 'g': screen_collect(s); break;
    case ' ': s->is_paused = !s->is_paused; break;
    case 'h':
    case '?': s->has_help = !s->has_help; break;
    default: screen_sort_by(s, key);
  }
}

static volatile sig_atomic_t screen_signal;

static void screen_note_signal(int number) { screen_signal = number; }

int top_screen(top_order order, bool with_dead, double interval_s) {
  struct sigaction to = {.sa_handler = screen_note_signal};
  screen s = {.order = order, .with_dead = with_dead, .interval_s = interval_s};
  int code = screen_read(&s);

  if (code != CLI_OK) return code;
  sigaction(SIGTERM, &to, NULL);
  sigaction(SIGINT, &to, NULL);
  sigaction(SIGHUP, &to, NULL);
  screen_begin(&s);
  timeout((int)(interval_s * 1000));
  while (!s.is_over && screen_signal == 0 && code == CLI_OK) {
    int key;
    screen_draw(&s);
    key = getch();
    if (key == ERR && !s.is_paused)
      code = screen_read(&s);
    else if (key != ERR && key != KEY_RESIZE)
      screen_press(&s, key);
  }
  endwin();
  processes_free(&s.list);
  return screen_signal != 0 ? 128 + screen_signal : code;
}
