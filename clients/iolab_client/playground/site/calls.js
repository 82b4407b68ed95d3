// The system calls that threads wait in: their colours, and what each means in words.

const KINDS = [
  ["ready", "asks who is ready", ["epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"],
    "sleeps until the kernel says that one of many sockets is ready"],
  ["accept", "waits for a client", ["accept", "accept4"], "is blocked until somebody connects"],
  ["receive", "waits for bytes of one client", ["recvfrom", "recvmsg", "read"], "is blocked until this one client sends something"],
  ["send", "waits until one client takes bytes", ["sendto", "sendmsg", "write"], "is blocked: this one client does not read its answers"],
  ["completion", "waits for completions", ["io_uring_enter"], "sleeps until the kernel says that something it was told to do is done"],
  ["lock", "waits for another thread", ["futex"], "sleeps until another thread of the process wakes it: for work, for a lock, or for its turn (the GIL)"],
  ["sleep", "waits for a time", ["nanosleep", "clock_nanosleep", "restart_syscall", "rt_sigtimedwait"], "sleeps until a time is over: that is what the work dial's wait looks like in a thread"],
  ["running", "runs", ["running"], "waits in nothing: it runs, or is ready to run"],
  ["other", "something else", [], "is in a system call that is not one of those that servers usually wait in"],
];

const byCall = new Map(KINDS.flatMap(([kind, , calls]) => calls.map((call) => [call, kind])));
const words = new Map(KINDS.map(([kind, title, , text]) => [kind, { title, text }]));

export const kinds = KINDS.map(([kind, title]) => ({ kind, title }));

/** Which kind of waiting a call is. */
export const kindOf = (call) => byCall.get(call) ?? "other";

/** What it means to be in a call, in words. */
export const meaning = (call) => words.get(kindOf(call)).text;

/** The colour of a kind, as the style sheet has it. */
export const colour = (kind) => getComputedStyle(document.documentElement).getPropertyValue(`--call-${kind}`).trim();
