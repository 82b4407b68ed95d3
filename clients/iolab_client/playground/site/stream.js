// The one event stream: the newest snapshot, for as long as the page is open. The browser itself connects again.

const digits = new Uint8Array(16);
crypto.getRandomValues(digits);

/** This page's name for itself: what it opens is ended when it has been away for a minute. */
export const page = Array.from(digits, (digit) => digit.toString(16).padStart(2, "0")).join("");

/**
 * Call `take` with each snapshot, and `tell` with the state of the connection: live or lost.
 *
 * A page that nobody sees has none: a browser has six connections to a server at most, for all its tabs together.
 */
export function follow(take, tell) {
  let stream = null;
  const close = () => {
    stream?.close();
    stream = null;
  };
  const open = () => {
    if (document.hidden || stream) return;
    const opened = (stream = new EventSource(`/events?page=${page}`));
    opened.addEventListener("open", () => tell("live"));
    opened.addEventListener("message", (event) => take(JSON.parse(event.data)));
    opened.addEventListener("error", () => {
      tell("lost");
      // Refused, because too many pages are open, say: the browser gives up, and we ask again.
      if (opened.readyState === EventSource.CLOSED && stream === opened) close();
    });
  };
  const look = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", look);
  // For who was refused, and for a page that a browser shows without an event: it would wait for ever.
  setInterval(look, 3000);
  look();
}
