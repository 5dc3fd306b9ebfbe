/* text.js - words, numbers and times in the reader's language. */
import en from './en.js';
import zh from './zh.js';

const languages = { en, zh };
const remembered = 'memguard-language';
const units = ['B', 'KB', 'MB', 'GB', 'TB'];
const none = '–';

function preferred() {
  let kept = null;
  try {
    kept = localStorage.getItem(remembered);
  } catch {
    // A browser may forbid it; then the choice lasts until the page is left.
  }
  const wishes = [kept, ...navigator.languages].filter(Boolean);
  return wishes.map((wish) => wish.slice(0, 2).toLowerCase()).find((wish) => Object.hasOwn(languages, wish)) ?? 'en';
}

let language = preferred();
let strings = languages[language];
let clock = makeClock();

function makeClock() {
  const locale = language === 'zh' ? 'zh-CN' : 'en-GB';
  const time = { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false };
  return {
    time: new Intl.DateTimeFormat(locale, time),
    day: new Intl.DateTimeFormat(locale, { month: 'short', day: 'numeric', ...time }),
    number: new Intl.NumberFormat(locale),
  };
}

/** Chinese if it was English, and the other way round. */
export function switchLanguage() {
  language = language === 'en' ? 'zh' : 'en';
  strings = languages[language];
  clock = makeClock();
  try {
    localStorage.setItem(remembered, language);
  } catch {
    // As above.
  }
}

/** The words under a key; {name} in them is replaced. A key without words, such as a
 *  name that a newer core brought, is shown as it is. */
export function words(key, values = {}) {
  const text = Object.hasOwn(strings, key) ? strings[key] : key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/** The words for a name that the API gave, as in kind_high_usage; else the name. */
export function nameOf(group, name) {
  const key = `${group}_${String(name).replace(/[:\-\s]/g, '_')}`;
  return Object.hasOwn(strings, key) ? strings[key] : String(name);
}

/** Puts the words into what says data-text, data-label, data-title, data-placeholder. */
export function translate(root) {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const one of root.querySelectorAll('[data-text]')) one.textContent = words(one.dataset.text);
  for (const one of root.querySelectorAll('[data-label]')) one.setAttribute('aria-label', words(one.dataset.label));
  for (const one of root.querySelectorAll('[data-title]')) one.title = words(one.dataset.title);
  for (const one of root.querySelectorAll('[data-placeholder]')) one.placeholder = words(one.dataset.placeholder);
}

export function bytes(value) {
  if (value === null || value === undefined) return none;
  let rest = Math.abs(value);
  let unit = 0;
  while (rest >= 1024 && unit + 1 < units.length) {
    rest /= 1024;
    unit += 1;
  }
  const digits = unit > 0 && rest < 99.95 ? 1 : 0;
  return `${value < 0 ? '−' : ''}${rest.toFixed(digits)} ${units[unit]}`;
}

export function percent(value) {
  if (value === null || value === undefined) return none;
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** One digit behind the point, if it says something. */
function short(value) {
  return value.toFixed(1).replace('.0', '');
}

export function milliseconds(value) {
  if (value === null || value === undefined) return none;
  if (value >= 60000) return `${short(value / 60000)} min`;
  if (value >= 1000) return `${short(value / 1000)} s`;
  const digits = value > 0 && value < 0.095 ? 2 : value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)} ms`;
}

export function count(value) {
  return value === null || value === undefined ? none : clock.number.format(value);
}

/** The time of day; with the day if that is not today. */
export function moment(unixMs) {
  if (!unixMs) return none;
  const isToday = new Date(unixMs).toDateString() === new Date().toDateString();
  return (isToday ? clock.time : clock.day).format(unixMs);
}
