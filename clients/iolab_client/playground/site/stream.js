// The one event stream: the newest snapshot, for as long as the page is open. The browser itself connects again.

const digits = new Uint8Array(16);
crypto.getRandomValues(digits);

/** This page's name for itself: what it opens is ended when it has been away for a minute. */
export const page = Array.from(digits, (digit) => digit.toString(16).padStart(2, "0")).join("");

/** Call `take` with each snapshot, and `tell` with the state of the connection: connecting, live or lost. */
export function follow(take, tell) {
  const stream = new EventSource(`/events?page=${page}`);
  stream.addEventListener("open", () => tell("live"));
  stream.addEventListener("message", (event) => take(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    tell("lost");
    // Refused, because too many pages are open, say: the browser gives up, and we ask again.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => follow(take, tell), 3000);
  });
}
