/* The common case of a load: one request in flight on a connection, and its answer compared, noted and followed by
 * the next request. Everything else is left to loop.py, one event at a time.
 *
 * In C because one core of generator has to keep up with one core of server: in Python the same costs twice what the
 * system calls do. fast_path.py has the other half of every structure here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { EVENTS = 256, EVENTS_BETWEEN_TURNS = 16, TURNS_BETWEEN_EVENTS = 64, READ_BYTES = 1 << 16, SECOND = 1000000000 };
/* Whose connection it is: loop.py's, or ours with or without a request in flight. */
enum { NOT_LENT, FREE, IN_FLIGHT };
/* What is left to loop.py: nothing, an event, bytes that are not what is due, an error number, a request half sent. */
enum { NOTHING, EVENT, BYTES, ERROR, UNSENT };

/* A connection, found by its descriptor. Places are offsets in the pattern, times are nanoseconds. */
struct flight {
    int64_t lent;
    int64_t start, begin, end;
    int64_t due, sent_at, answered_at;
    int64_t turn;
};

struct load {
    const char *pattern, *answers;
    int64_t unique;
    const int64_t *sizes;
    int64_t sizes_count;
    /* The next request, and how many more may be sent. */
    int64_t number, left;
    struct flight *flights;
    int64_t flights_count;
    /* A note for each answer, and for each request of the timetable; to be counted when `room` of them are there. */
    int64_t *sent, *done, *due, *done_sizes, noted;
    int64_t *turns, *late, turns_noted;
    int64_t room;
    /* All answers until now, for whoever watches. */
    int64_t total, *shown_total;
    /* The timetable of an open loop: the period of all processes together is 0 in a closed one. */
    double period;
    int64_t first_due, dealt, last_turn, processes, process;
    const int64_t *talkers;
    int64_t talkers_count;
    /* What is left to loop.py. */
    int64_t left_kind, left_descriptor, left_mask, left_count;
    /* What epoll has told and nobody has seen to yet. */
    int64_t ready, next;
    char buffer[READ_BYTES];
    /* From here on fast_path.py knows nothing of it. */
    struct epoll_event events[EVENTS];
};

int64_t load_size(void) { return sizeof(struct load); }
int64_t load_shared_size(void) { return offsetof(struct load, events); }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)SECOND + t.tv_nsec;
}

static int leave(struct load *load, int kind, int descriptor, uint32_t mask, int64_t count) {
    load->left_kind = kind;
    load->left_descriptor = descriptor;
    load->left_mask = mask;
    load->left_count = count;
    return kind;
}

static int64_t due_at(const struct load *load, int64_t turn) {
    return load->first_due + (int64_t)((double)(turn * load->processes + load->process) * load->period);
}

static int send_next(struct load *load, int descriptor, struct flight *flight, int64_t due, int64_t now) {
    flight->lent = FREE;
    flight->start = flight->begin = flight->end = flight->due = flight->sent_at = 0;
    if (load->left <= 0) return NOTHING;
    int64_t begin = load->number % load->unique, size = load->sizes[load->number % load->sizes_count];
    load->number++;
    load->left--;
    flight->lent = IN_FLIGHT;
    flight->start = flight->begin = begin;
    flight->end = begin + size;
    flight->due = due;
    flight->sent_at = now;
    ssize_t taken = send(descriptor, load->pattern + begin, size, MSG_NOSIGNAL);
    return taken == size ? NOTHING : leave(load, UNSENT, descriptor, 0, taken < 0 ? 0 : taken);
}

static int answered(struct load *load, int descriptor, struct flight *flight) {
    int64_t now = now_ns(), note = load->noted++;
    load->sent[note] = flight->sent_at;
    load->done[note] = now;
    load->due[note] = flight->due;
    load->done_sizes[note] = flight->end - flight->start;
    load->total++;
    flight->answered_at = now;
    if (!load->period) return send_next(load, descriptor, flight, now, now);
    if (flight->turn < load->dealt) {
        int64_t due = due_at(load, flight->turn);
        flight->turn += load->talkers_count;
        return send_next(load, descriptor, flight, due, now);
    }
    flight->lent = FREE;
    flight->start = flight->begin = flight->end = flight->due = flight->sent_at = 0;
    return NOTHING;
}

/* Edge-triggered: read until there is less than was asked for, or all that is due. What is too much is seen as the
 * next answer, and is none. */
static int look_at(struct load *load, int descriptor, uint32_t mask) {
    struct flight *flight = descriptor < load->flights_count ? &load->flights[descriptor] : NULL;
    if (!flight || flight->lent != IN_FLIGHT || mask != EPOLLIN) return leave(load, EVENT, descriptor, mask, 0);
    for (;;) {
        int64_t wanted = flight->end - flight->begin;
        if (wanted > READ_BYTES) wanted = READ_BYTES;
        ssize_t count = recv(descriptor, load->buffer, wanted, 0);
        if (count < 0 && errno == EAGAIN) return NOTHING;
        if (count < 0) return leave(load, ERROR, descriptor, mask, errno);
        if (count == 0 || memcmp(load->buffer, load->answers + flight->begin, count))
            return leave(load, BYTES, descriptor, mask, count);
        flight->begin += count;
        if (flight->begin == flight->end) return answered(load, descriptor, flight);
        if (count < wanted) return NOTHING;
    }
}

/* Give the requests that are due to their connections. One that is busy has its own when it is answered. */
static int deal(struct load *load) {
    for (int turn = 0; turn < TURNS_BETWEEN_EVENTS && load->turns_noted < load->room; turn++) {
        int64_t due = due_at(load, load->dealt), now = now_ns();
        if (now < due || load->dealt >= load->last_turn) break;
        load->turns[load->turns_noted] = due;
        load->late[load->turns_noted++] = now - due;
        int64_t descriptor = load->talkers[load->dealt++ % load->talkers_count];
        if (descriptor < 0 || descriptor >= load->flights_count) continue;
        struct flight *flight = &load->flights[descriptor];
        if (flight->lent != FREE || flight->turn >= load->dealt) continue;
        due = due_at(load, flight->turn);
        flight->turn += load->talkers_count;
        if (send_next(load, descriptor, flight, due, now)) return load->left_kind;
    }
    return NOTHING;
}

/* Wait for events: in a closed loop as long as that takes, in an open one until the next request is due. */
static void wait_for(struct load *load, int poller, int64_t until) {
    int64_t wait = until - now_ns();
    int most = EVENTS;
    if (load->period) {
        most = EVENTS_BETWEEN_TURNS;
        /* The next turn, unless more of them are due already than were dealt at once. */
        int64_t to_turn = load->dealt < load->last_turn ? due_at(load, load->dealt) - now_ns() : wait;
        if (to_turn < wait) wait = to_turn;
        load->ready = epoll_wait(poller, load->events, most, 0);
        if (load->ready || wait <= 0) return;
        struct timespec time = {.tv_sec = wait / SECOND, .tv_nsec = wait % SECOND};
        struct pollfd one = {.fd = poller, .events = POLLIN};
        ppoll(&one, 1, &time, NULL);
        wait = 0;
    }
    /* Milliseconds, rounded up: rounded down, the last one would be spent in a busy loop. */
    load->ready = epoll_wait(poller, load->events, most, wait <= 0 ? 0 : (int)((wait + 999999) / 1000000));
}

/* The next event that nobody has seen to: EVENT, or NOTHING. */
int load_event(struct load *load) {
    if (load->next >= load->ready) return NOTHING;
    struct epoll_event *event = &load->events[load->next++];
    return leave(load, EVENT, event->data.fd, event->events, 0);
}

/* Run the load until a moment, or until the notes are full, or until there is something that loop.py must see to.
 * Returns what that is: `left_kind`, NOTHING in the first two cases. */
int load_run(struct load *load, int poller, int64_t until) {
    for (;;) {
        while (load->next < load->ready) {
            if (load->noted >= load->room) return NOTHING;
            struct epoll_event *event = &load->events[load->next++];
            if (look_at(load, event->data.fd, event->events)) return load->left_kind;
        }
        *load->shown_total = load->total;
        if (load->period && deal(load)) return load->left_kind;
        if (load->noted >= load->room || load->turns_noted >= load->room || now_ns() >= until) return NOTHING;
        load->next = load->ready = 0;
        wait_for(load, poller, until);
        if (load->ready < 0) load->ready = 0;
    }
}
