// The page: it follows the stream, and shows what comes unless it is frozen.

import { byId, say } from "./dom.js";
import { explainCards, prepareCards, showCards } from "./cards.js";
import { prepareDoing, showOpened } from "./doing.js";
import { prepareLessons, seeSnapshot } from "./lessons.js";
import { follow } from "./stream.js";

const TELLS = { live: "live", lost: "not connected: the playground has ended, or too many pages are open; trying again" };
let frozen = false;

function take(snapshot) {
  showOpened(snapshot);
  seeSnapshot(snapshot);
  if (frozen) return;
  showCards(snapshot);
  say(byId("connection"), snapshot.complaint || "live");
}

function freeze() {
  frozen = !frozen;
  byId("freeze").setAttribute("aria-pressed", String(frozen));
  say(byId("freeze"), frozen ? "Go on" : "Freeze and explain");
  say(byId("connection"), frozen ? "frozen: each card says in words what its threads are doing" : "live");
  document.body.classList.toggle("frozen", frozen);
  explainCards(frozen);
}

prepareCards();
prepareDoing();
prepareLessons();
byId("freeze").addEventListener("click", freeze);
follow(take, (state) => {
  if (!frozen) say(byId("connection"), TELLS[state]);
  document.body.dataset.connection = state;
});
