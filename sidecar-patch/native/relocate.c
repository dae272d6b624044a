/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts trace context directly behind the pseudo headers and host of a request (docs/sidecar-native.md).
 *
 * A dynamic module for Envoy's upstream HTTP filters, after the tracer has written the context. A header map has no
 * insert: what shall stand behind the context is set again, which takes it out and adds it at the end in one call, so
 * that a header is never absent between two calls. Everything is read and all memory is there before the first change.
 */
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "envoy_abi.h"

/* ---- constants ---------------------------------------------------------------------------- */

#define MAX_HEADERS 2048      /* of one request; more: passes unchanged, counter relocate_skipped_total */
#define MAX_BYTES (16U << 20) /* of names and values; Envoy itself refuses more than 8 MiB */
#define OTHER MAX_NAMES       /* the place of what is no context: behind all contexts */
#define NOBODY UINT32_MAX

/* ---- the request -------------------------------------------------------------------------- */

struct request {
    envoy_filter filter;
    const struct config *config;
    size_t count;
    struct envoy_header *headers;
    uint8_t *places; /* of each header: which of the configuration's names it has, or OTHER */
    size_t begin;    /* the first header that may move */
    uint32_t *first; /* of each header: the first with the same name; from arrange() on */
    uint32_t *order; /* the headers from `begin` on, as they shall be; from arrange() on */
    size_t kept;     /* so many of `order` are in their order already and stay */
};

static void count_one(const struct request *request, enum counter counter) {
    if (request->config->has_counters)
        envoy_dynamic_module_callback_http_filter_increment_counter(
            request->filter, request->config->counters[counter], NULL, 0, 1);
}

static uint8_t place_of(const struct config *config, const char *name, size_t length) {
    if (!(config->lengths >> (length < 63 ? length : 63) & 1))
        return OTHER;
    for (size_t at = 0; at < config->count; at++) {
        if (config->names[at].length == length && memcmp(config->names[at].text, name, length) == 0)
            return (uint8_t)at;
    }
    return OTHER;
}

/* Envoy keeps pseudo headers first, and host as one of them (:authority). */
static size_t count_leading(const struct request *request) {
    size_t at = 0;
    while (at < request->count && request->headers[at].name_length > 0 && request->headers[at].name[0] == ':')
        at++;
    return at;
}

/* Contexts in their order, then all others: nothing to do, as where there is no context. */
static bool is_arranged(const struct request *request) {
    uint8_t last = 0;
    for (size_t at = request->begin; at < request->count; at++) {
        if (request->places[at] < last)
            return false;
        last = request->places[at];
    }
    return true;
}

/* ---- the wanted order --------------------------------------------------------------------- */

/*
 * Of length, first and last eight bytes: names of headers rarely differ elsewhere only. Whoever sends such costs a
 * comparison for each pair, 10 ms for MAX_HEADERS; Envoy takes 100 headers unless it is told otherwise.
 */
static size_t hash(const char *text, size_t length) {
    uint64_t head = 0, tail = 0;
    if (length >= sizeof head) {
        memcpy(&head, text, sizeof head);
        memcpy(&tail, text + length - sizeof tail, sizeof tail);
    } else {
        for (size_t at = 0; at < length; at++)
            head = head << 8 | (unsigned char)text[at];
    }
    uint64_t mixed = (head ^ (tail + length) * 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    return (size_t)(mixed >> 32);
}

static bool is_same_name(const struct envoy_header *one, const struct envoy_header *other) {
    return one->name_length == other->name_length && memcmp(one->name, other->name, one->name_length) == 0;
}

/* Fills `first` by a table of `size` slots, a power of two and more than there are headers. */
static void find_first(struct request *request, uint32_t *slots, size_t size) {
    memset(slots, 0xff, size * sizeof *slots); /* all NOBODY */
    for (size_t at = 0; at < request->count; at++) {
        const struct envoy_header *header = &request->headers[at];
        size_t slot = hash(header->name, header->name_length) & (size - 1);
        while (slots[slot] != NOBODY && !is_same_name(header, &request->headers[slots[slot]]))
            slot = (slot + 1) & (size - 1);
        if (slots[slot] == NOBODY)
            slots[slot] = (uint32_t)at;
        request->first[at] = slots[slot];
    }
}

/*
 * A header without a value cannot be moved (envoy_abi.h). So what stands before the last one that is no context stays
 * where it is, and so does, further on, what has the same name as something that stays. Returns where that ends;
 * `last` is room for one number a header.
 */
static size_t hold(const struct request *request, size_t from, uint32_t *last) {
    size_t end = from;
    for (size_t at = from; at < request->count; at++) {
        last[request->first[at]] = (uint32_t)at;
        if (request->headers[at].value_length == 0 && request->places[at] == OTHER)
            end = at + 1;
    }
    for (size_t at = from; at < end; at++) {
        size_t behind = (size_t)last[request->first[at]] + 1;
        end = behind > end ? behind : end;
    }
    return end;
}

/* Sorts by place; what has the same place keeps its order, so that the first of two equal names is still the first. */
static void sort(struct request *request) {
    size_t next[OTHER + 2] = {0};
    for (size_t at = request->begin; at < request->count; at++)
        next[request->places[at] + 1]++;
    for (size_t place = 0; place < OTHER; place++)
        next[place + 1] += next[place];
    for (size_t at = request->begin; at < request->count; at++)
        request->order[next[request->places[at]]++] = (uint32_t)at;
}

static size_t count_kept(const struct request *request) {
    size_t count = request->count - request->begin, kept = count > 0;
    while (kept < count && request->order[kept - 1] < request->order[kept])
        kept++;
    return kept;
}

/* A context without a value, which cannot be moved, would have to. */
static bool moves_empty(const struct request *request) {
    for (size_t at = request->kept; at < request->count - request->begin; at++) {
        if (request->headers[request->order[at]].value_length == 0)
            return true;
    }
    return false;
}

/* Contexts in the order that they have: then only others move. */
static void keep_order_of_contexts(struct request *request) {
    for (size_t at = request->begin; at < request->count; at++)
        request->places[at] = request->places[at] == OTHER ? OTHER : 0;
}

static void find_order(struct request *request) {
    sort(request);
    request->kept = count_kept(request);
}

/* ---- moving ------------------------------------------------------------------------------- */

/* To the end of the map. The first of its name takes all of that name out. */
static bool put(const struct request *request, size_t at) {
    const struct envoy_header *header = &request->headers[at];
    struct module_bytes name = {header->name, header->name_length}, value = {header->value, header->value_length};
    if (request->first[at] == at)
        return envoy_dynamic_module_callback_http_set_header(request->filter, REQUEST_HEADER, name, value);
    return envoy_dynamic_module_callback_http_add_header(request->filter, REQUEST_HEADER, name, value);
}

/*
 * A call that fails is made once more. What cannot be put then stays where it is, and the rest moves: nothing is lost,
 * unless Envoy takes one of several headers with a name and then twice refuses the next.
 */
static void move(const struct request *request) {
    bool is_moved = true, has_failed = false;
    for (size_t at = request->kept; at < request->count - request->begin; at++) {
        if (put(request, request->order[at]))
            continue;
        has_failed = true;
        is_moved &= put(request, request->order[at]);
    }
    if (is_moved)
        count_one(request, RELOCATED);
    if (has_failed)
        count_one(request, ERRORS);
}

/* Lets names and values that move point to copies: setting a header frees what Envoy lent. */
static void copy_bytes(struct request *request, char *bytes) {
    for (size_t at = request->kept; at < request->count - request->begin; at++) {
        struct envoy_header *header = &request->headers[request->order[at]];
        header->name = memcpy(bytes, header->name, header->name_length);
        bytes += header->name_length;
        header->value = memcpy(bytes, header->value, header->value_length);
        bytes += header->value_length;
    }
}

/* ---- memory ------------------------------------------------------------------------------- */

static size_t table_size(size_t count) {
    size_t size = 4;
    while (size < 2 * count)
        size *= 2;
    return size;
}

static size_t count_bytes(const struct request *request) {
    size_t bytes = 0;
    for (size_t at = request->kept; at < request->count - request->begin; at++) {
        const struct envoy_header *header = &request->headers[request->order[at]];
        bytes += header->name_length + header->value_length;
    }
    return bytes;
}

/* ---- the filter --------------------------------------------------------------------------- */

/* The wanted order is known. */
static void relocate(struct request *request) {
    size_t size = count_bytes(request);
    if (size > MAX_BYTES) {
        count_one(request, SKIPPED);
        return;
    }
    char *bytes = malloc(size + 1);
    if (bytes == NULL) {
        count_one(request, ERRORS);
        return;
    }
    copy_bytes(request, bytes);
    move(request);
    free(bytes);
}

/* There is a context that does not lead. */
static void arrange(struct request *request) {
    size_t count = request->count, size = table_size(count), leading = request->begin;
    uint32_t *memory = malloc((2 * count + size) * sizeof *memory);
    if (memory == NULL) {
        count_one(request, ERRORS);
        return;
    }
    request->first = memory;
    request->order = memory + count;
    find_first(request, memory + 2 * count, size);
    request->begin = hold(request, leading, request->order);
    find_order(request);
    bool moves_what_cannot = moves_empty(request);
    if (moves_what_cannot) {
        keep_order_of_contexts(request);
        find_order(request);
    }
    if (moves_what_cannot || request->begin != leading)
        count_one(request, HELD);
    if (request->kept < count - request->begin)
        relocate(request);
    free(memory);
}

static void read_and_arrange(struct request *request) {
    struct envoy_header *headers = request->headers;
    if (!envoy_dynamic_module_callback_http_get_headers(request->filter, REQUEST_HEADER, headers)) {
        count_one(request, ERRORS);
        return;
    }
    for (size_t at = 0; at < request->count; at++)
        request->places[at] = place_of(request->config, headers[at].name, headers[at].name_length);
    request->begin = count_leading(request);
    if (!is_arranged(request))
        arrange(request);
}

static void on_request(const struct config *config, envoy_filter filter) {
    struct request request = {.filter = filter, .config = config};
    request.count = envoy_dynamic_module_callback_http_get_headers_size(filter, REQUEST_HEADER);
    if (request.count == 0)
        return;
    if (request.count > MAX_HEADERS) {
        count_one(&request, SKIPPED);
        return;
    }
    request.headers = malloc(request.count * (sizeof *request.headers + sizeof *request.places));
    if (request.headers == NULL) {
        count_one(&request, ERRORS);
        return;
    }
    request.places = (uint8_t *)(request.headers + request.count);
    read_and_arrange(&request);
    free(request.headers);
}

/* ---- what Envoy calls --------------------------------------------------------------------- */

/* The version of the ABI that Envoy compares with its own; one that differs costs a warning in its log. */
EXPORT const char *envoy_dynamic_module_on_program_init(void) {
    return envoy_dynamic_module_callback_log_v2 != NULL ? "v0.2.0" : "v0.1.0";
}

EXPORT const void *envoy_dynamic_module_on_http_filter_config_new(
    envoy_config envoy, struct envoy_bytes name, struct envoy_bytes text) {
    (void)name; /* this library has one filter, whatever it is called */
    return config_new(envoy, text);
}

EXPORT void envoy_dynamic_module_on_http_filter_config_destroy(const void *config) {
    free((void *)config);
}

/* One for all requests: the filter remembers nothing. */
EXPORT const void *envoy_dynamic_module_on_http_filter_new(const void *config, envoy_filter filter) {
    (void)filter;
    return config;
}

EXPORT enum filter_status envoy_dynamic_module_on_http_filter_request_headers(
    envoy_filter filter, const void *config, bool end_of_stream) {
    (void)end_of_stream;
    on_request(config, filter);
    return STATUS_CONTINUE;
}
