// A page, alive: fetches its changing part every two seconds while the page is seen, and tells times in the reader's
// zone. Without this script the page says the same and is reloaded by hand.
//
// The part comes as a document that the browser parsed for XMLHttpRequest, with scripts off; its nodes are moved over.
// No text ever becomes markup here, so the page needs no Trusted Types policy, and allows none.
"use strict";

const EVERY_MS = 2000;
const AT_MOST_MS = 30000;
const TIMEOUT_MS = 10000;

const live = document.querySelector("main[data-part]");
const freshness = document.getElementById("freshness");
const pause = document.getElementById("pause");

// -- times ------------------------------------------------------------------------------------------------------------

const pinned = new URLSearchParams(location.search).get("tz") === "UTC" ? "UTC" : undefined;
const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: pinned };
const FORMS = new Map([
  ["minute", new Intl.DateTimeFormat(undefined, clock)],
  ["second", new Intl.DateTimeFormat(undefined, { ...clock, second: "2-digit" })],
]);
const WHOLE = new Intl.DateTimeFormat(undefined, {
  ...clock,
  year: "numeric",
  month: "short",
  day: "numeric",
  second: "2-digit",
  fractionalSecondDigits: 3,
  timeZoneName: "longOffset",
});

function localise(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.textContent = (FORMS.get(element.dataset.show) ?? WHOLE).format(moment);
    element.title = WHOLE.format(moment);
  }
  for (const title of root.querySelectorAll("title[data-at]")) {
    const [, ...rest] = title.textContent.split(" UTC");
    title.textContent = FORMS.get("minute").format(new Date(title.dataset.at)) + rest.join(" UTC");
  }
}

// -- the changing part ------------------------------------------------------------------------------------------------

// An open event, marked text or a form in use would be taken from under the reader's hands: it stands still meanwhile.
function isHeld(section) {
  if (section.contains(document.activeElement) && document.activeElement.closest("form")) return true;
  if (section.id !== "events") return false;
  const marked = document.getSelection();
  const held =
    section.querySelector("details[open]") !== null ||
    (marked !== null && marked.type === "Range" && section.contains(marked.anchorNode));
  const notice = document.getElementById("held");
  if (notice) notice.hidden = !held;
  return held;
}

function keyed(section) {
  return new Map([...section.querySelectorAll("details[data-key]")].map((element) => [element.dataset.key, element]));
}

function replace(section, fresh) {
  const focused = section.contains(document.activeElement) ? document.activeElement.closest("details") : null;
  for (const open of section.querySelectorAll("details[open][id]")) {
    const next = fresh.querySelector("#" + CSS.escape(open.id));
    if (next) next.open = true;
  }
  for (const chosen of section.querySelectorAll("select[id]")) {
    const next = fresh.querySelector("#" + CSS.escape(chosen.id));
    if (next) next.value = chosen.value;
  }
  const scrolled = [...section.querySelectorAll("details[id] .scroll")].map((element) => element.scrollTop);
  section.replaceChildren(...fresh.childNodes);
  section.querySelectorAll("details[id] .scroll").forEach((element, at) => (element.scrollTop = scrolled[at] ?? 0));
  if (focused) {
    const again = focused.id ? document.getElementById(focused.id) : keyed(section).get(focused.dataset.key);
    (again?.querySelector("summary") ?? section.querySelector("[tabindex]"))?.focus({ preventScroll: true });
  }
}

function show(part) {
  localise(part);
  for (const section of live.querySelectorAll("[data-live]")) {
    const fresh = part.getElementById(section.id);
    if (fresh && !isHeld(section)) replace(section, fresh);
  }
}

// -- when -------------------------------------------------------------------------------------------------------------

let waitMs = EVERY_MS;
let timer = 0;
let asking = false;
let since = new Date();

function stamp(moment) {
  const element = document.createElement("time");
  element.dateTime = moment.toISOString();
  element.dataset.show = "second";
  return element;
}

function say(state, before, moment, after) {
  if (freshness.dataset.state === state) return;
  freshness.dataset.state = state;
  freshness.replaceChildren(before, stamp(moment), after);
  localise(freshness);
}

function isPaused() {
  return pause.getAttribute("aria-pressed") === "true";
}

function plan(inMs) {
  clearTimeout(timer);
  if (!asking && !document.hidden && !isPaused()) timer = setTimeout(ask, inMs);
}

function ask() {
  asking = true;
  const request = new XMLHttpRequest();
  request.open("GET", live.dataset.part);
  request.responseType = "document";
  request.timeout = TIMEOUT_MS;
  request.onloadend = () => {
    asking = false;
    if (request.status === 200 && new URL(request.responseURL).pathname !== live.dataset.part) {
      location.reload(); // the session has ended: the server shows the way to sign in
      return;
    }
    if (request.status === 200 && request.response) {
      waitMs = EVERY_MS;
      since = new Date();
      show(request.response);
      say("live", "Live since ", since, "");
    } else {
      waitMs = Math.min(waitMs * 2, AT_MOST_MS);
      say("away", "The server does not answer. Below is what it said at ", since, ". Trying again.");
    }
    plan(waitMs);
  };
  request.send();
}

if (live) {
  document.getElementById("reload").hidden = true;
  pause.hidden = false;
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!isPaused()));
    if (isPaused()) say("paused", "Paused at ", new Date(), "");
    plan(0);
  });
  document.addEventListener("visibilitychange", () => plan(0));
  plan(EVERY_MS);
}
localise(document);
