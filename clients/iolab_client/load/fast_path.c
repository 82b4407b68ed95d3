/* The common case of a load: one request in flight on a connection; its answer is compared and counted, and the next
 * request follows. Everything else is left to loop.py, one event at a time.
 *
 * It is in C because one core of generator has to keep up with one core of server: in Python the same costs twice as
 * much as the system calls. fast_path.py declares the same structures.
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
/* The buckets of buckets.py. */
enum { HALF_BITS = 10, ROUGH_BITS = 6 };
static const int64_t HIGHEST_NS = 3600 * (int64_t)SECOND;
/* A connection's state: not lent by loop.py, or lent without or with a request in flight. */
enum { NOT_LENT, FREE, IN_FLIGHT };
/* What is left to loop.py: nothing, an event, bytes other than those due, a receive's errno, a request sent in part, a
 * send's errno. */
enum { NOTHING, EVENT, BYTES, ERROR, UNSENT, UNSENDABLE };

/* A connection, found by its descriptor. Places are offsets in the pattern, times are nanoseconds. */
struct flight {
    int64_t lent;
    int64_t start, begin, end;
    int64_t due, sent_at, answered_at;
    int64_t turn;
    /* The answers in the measured time; and whether it is in `free`. */
    int64_t answers, queued;
};

/* The counts of tally.py, for the time from `begin` to before `end`, and for what was in flight then. */
struct counts {
    int64_t begin, end, only_new;
    int64_t answers, late, sent, sent_bytes, received_bytes, flight_ns, latency_ns, from_send_ns, last_done;
    int64_t step_ns, interval_ns, rough_buckets, *steps;
    int64_t *latency, *from_send, *lag;
    /* A row of so many rough buckets for each interval of the measured time. */
    int64_t *over_time;
};

struct load {
    /* `answers` is NULL if any bytes will do. */
    const char *pattern, *answers;
    int64_t unique;
    const int64_t *sizes;
    int64_t sizes_count;
    /* The next request, and how many more may be sent. */
    int64_t number, left;
    struct flight *flights;
    int64_t flights_count;
    struct counts counts;
    /* All answers so far, for the parent. */
    int64_t total, *shown_total;
    /* The timetable of an open loop; `period`, of all processes together, is 0 in a closed loop. */
    double period;
    int64_t first_due, dealt, taken, last_turn, processes, process;
    /* Random arrivals, counted from the first; the last entry is the length of the whole series. */
    const double *arrivals;
    int64_t arrivals_count;
    /* Whether each connection has its own turns; else `free` is a ring of free connections, the longest free first. */
    int64_t bound, *free, free_size, free_head, free_count;
    const int64_t *talkers;
    int64_t talkers_count;
    /* In an open loop, how long there was nothing to do; waiting for the next turn by reading the clock counts too. */
    int64_t waited;
    /* What is left to loop.py. */
    int64_t left_kind, left_descriptor, left_mask, left_count;
    /* The events of the last epoll_wait that are not handled yet. */
    int64_t ready, next;
    char buffer[READ_BYTES];
    /* fast_path.py does not declare what follows. */
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

int64_t load_bucket(int64_t ns) {
    ns = ns < 0 ? 0 : ns > HIGHEST_NS ? HIGHEST_NS : ns;
    int octave = 64 - __builtin_clzll(ns | 1) - (HALF_BITS + 1);
    if (octave < 0) octave = 0;
    return ((int64_t)octave << HALF_BITS) + (ns >> octave);
}

/* One by one, not thousands at a time: a loop that counts for a millisecond is late by one. */
static void count(struct counts *counts, struct flight *flight, int64_t done, int planned) {
    int64_t begin = counts->begin, end = counts->end, sent = flight->sent_at, size = flight->end - flight->start;
    if (sent >= begin && sent < end) {
        counts->sent++;
        counts->sent_bytes += size;
    }
    int64_t in_flight = (done < end ? done : end) - (sent > begin ? sent : begin);
    if (in_flight > 0) counts->flight_ns += in_flight;
    if (done < begin || sent >= end || (counts->only_new && flight->due < begin)) return;
    int64_t bucket = load_bucket(done - flight->due);
    if (done < end) {
        counts->answers++;
        flight->answers++;
        counts->received_bytes += size;
        counts->last_done = done;
        counts->steps[(done - begin) / counts->step_ns]++;
        counts->over_time[(done - begin) / counts->interval_ns * counts->rough_buckets + (bucket >> ROUGH_BITS)]++;
    } else {
        counts->late++;
    }
    counts->latency_ns += done - flight->due;
    counts->latency[bucket]++;
    if (!planned) return;
    counts->from_send_ns += done - sent;
    counts->from_send[load_bucket(done - sent)]++;
}

static int64_t due_at(const struct load *load, int64_t turn) {
    if (load->arrivals) {
        int64_t count = load->arrivals_count;
        return load->first_due + (int64_t)((double)(turn / count) * load->arrivals[count] + load->arrivals[turn % count]);
    }
    return load->first_due + (int64_t)((double)(turn * load->processes + load->process) * load->period);
}

static void set_free(struct load *load, int descriptor, struct flight *flight) {
    flight->lent = FREE;
    flight->start = flight->begin = flight->end = flight->due = flight->sent_at = 0;
    if (!load->period || load->bound || flight->queued) return;
    load->free[(load->free_head + load->free_count++) % load->free_size] = descriptor;
    flight->queued = 1;
}

/* The connection that has been free longest; -1: none is. */
static int64_t pop_free(struct load *load) {
    while (load->free_count) {
        int64_t descriptor = load->free[load->free_head];
        load->free_head = (load->free_head + 1) % load->free_size;
        load->free_count--;
        load->flights[descriptor].queued = 0;
        /* loop.py may have taken it back since. */
        if (load->flights[descriptor].lent == FREE) return descriptor;
    }
    return -1;
}

/* When this connection's next request was due; -1: none is due yet. */
static int64_t take_turn(struct load *load, struct flight *flight) {
    if (!load->bound) return load->taken < load->dealt ? due_at(load, load->taken++) : -1;
    if (flight->turn >= load->dealt) return -1;
    int64_t due = due_at(load, flight->turn);
    flight->turn += load->talkers_count;
    return due;
}

static int send_next(struct load *load, int descriptor, struct flight *flight, int64_t due, int64_t now) {
    if (load->left <= 0) {
        set_free(load, descriptor, flight);
        return NOTHING;
    }
    int64_t begin = load->number % load->unique, size = load->sizes[load->number % load->sizes_count];
    load->number++;
    load->left--;
    flight->lent = IN_FLIGHT;
    flight->start = flight->begin = begin;
    flight->end = begin + size;
    flight->due = due;
    flight->sent_at = now;
    ssize_t taken = send(descriptor, load->pattern + begin, size, MSG_NOSIGNAL);
    if (taken == size) return NOTHING;
    if (taken < 0 && errno != EAGAIN) return leave(load, UNSENDABLE, descriptor, 0, errno);
    return leave(load, UNSENT, descriptor, 0, taken < 0 ? 0 : taken);
}

static int answered(struct load *load, int descriptor, struct flight *flight) {
    int64_t now = now_ns();
    count(&load->counts, flight, now, load->period != 0);
    load->total++;
    flight->answered_at = now;
    if (!load->period) return send_next(load, descriptor, flight, now, now);
    int64_t due = take_turn(load, flight);
    if (due >= 0) return send_next(load, descriptor, flight, due, now);
    set_free(load, descriptor, flight);
    return NOTHING;
}

/* Edge-triggered: read until recv returns less than was asked for, or all that is due is there. Excess bytes are found
 * as a wrong next answer. */
static int look_at(struct load *load, int descriptor, uint32_t mask) {
    struct flight *flight = descriptor < load->flights_count ? &load->flights[descriptor] : NULL;
    if (!flight || flight->lent != IN_FLIGHT || mask != EPOLLIN) return leave(load, EVENT, descriptor, mask, 0);
    for (;;) {
        int64_t wanted = flight->end - flight->begin;
        if (wanted > READ_BYTES) wanted = READ_BYTES;
        ssize_t count = recv(descriptor, load->buffer, wanted, 0);
        if (count < 0 && errno == EAGAIN) return NOTHING;
        if (count < 0) return leave(load, ERROR, descriptor, mask, errno);
        if (count == 0 || (load->answers && memcmp(load->buffer, load->answers + flight->begin, count)))
            return leave(load, BYTES, descriptor, mask, count);
        flight->begin += count;
        if (flight->begin == flight->end) return answered(load, descriptor, flight);
        if (count < wanted) return NOTHING;
    }
}

/* Give the requests that are due to free connections or, if bound, to their own. A busy connection takes its next
 * request when it is answered. */
static int deal(struct load *load) {
    for (int turn = 0; turn < TURNS_BETWEEN_EVENTS; turn++) {
        int64_t due = due_at(load, load->dealt), now = now_ns();
        if (now < due || load->dealt >= load->last_turn) break;
        if (due >= load->counts.begin && due < load->counts.end) load->counts.lag[load_bucket(now - due)]++;
        int64_t turn = load->dealt++;
        int64_t descriptor = load->bound ? load->talkers[turn % load->talkers_count] : pop_free(load);
        if (descriptor < 0 || descriptor >= load->flights_count) continue;
        struct flight *flight = &load->flights[descriptor];
        if (flight->lent != FREE || (due = take_turn(load, flight)) < 0) continue;
        if (send_next(load, descriptor, flight, due, now)) return load->left_kind;
    }
    return NOTHING;
}

/* Wait for events; in an open loop at most until the next request is due. */
static void wait_for(struct load *load, int poller, int64_t until) {
    int64_t now = now_ns(), wait = until - now;
    int most = EVENTS;
    if (load->period) {
        most = EVENTS_BETWEEN_TURNS;
        /* The next turn may be due already, because only some are dealt at once. */
        int64_t to_turn = load->dealt < load->last_turn ? due_at(load, load->dealt) - now : wait;
        if (to_turn < wait) wait = to_turn;
        load->ready = epoll_wait(poller, load->events, most, 0);
        if (load->ready || wait <= 0) return;
        struct timespec time = {.tv_sec = wait / SECOND, .tv_nsec = wait % SECOND};
        struct pollfd one = {.fd = poller, .events = POLLIN};
        ppoll(&one, 1, &time, NULL);
        load->waited += now_ns() - now;
        wait = 0;
    }
    /* Milliseconds, rounded up: rounded down, the last one would be a busy loop. */
    load->ready = epoll_wait(poller, load->events, most, wait <= 0 ? 0 : (int)((wait + 999999) / 1000000));
}

/* Leave the next event that is not handled: EVENT, or NOTHING. */
int load_event(struct load *load) {
    if (load->next >= load->ready) return NOTHING;
    struct epoll_event *event = &load->events[load->next++];
    return leave(load, EVENT, event->data.fd, event->events, 0);
}

/* Run the load until a moment (NOTHING), or until loop.py must handle something: returns `left_kind`. */
int load_run(struct load *load, int poller, int64_t until) {
    for (;;) {
        while (load->next < load->ready) {
            struct epoll_event *event = &load->events[load->next++];
            if (look_at(load, event->data.fd, event->events)) return load->left_kind;
        }
        *load->shown_total = load->total;
        if (load->period && deal(load)) return load->left_kind;
        if (now_ns() >= until) return NOTHING;
        load->next = load->ready = 0;
        wait_for(load, poller, until);
        if (load->ready < 0) load->ready = 0;
    }
}
