/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An Envoy for unit tests of the native module: a header map behind the callbacks of the ABI, and faults on order.
 *
 * Reads commands from standard input and answers on standard output, numbers as u32 of this machine, texts with their
 * length before them:
 *     'c' TEXT FAULT            a new configuration, FAULT 1: counters cannot be defined; answer: accepted (0, 1), log
 *     'r' CALL ALLOCATION STAYS COUNT (NAME VALUE)...
 *                               one request; call CALL of the module fails (0: none), with STAYS all from then on, and
 *                               allocation ALLOCATION does; answer: calls, counters, COUNT (NAME VALUE)...
 * Each name and value is an allocation of its own, freed with its header, so that the sanitizer finds what outlives it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../sidecar-patch/native/config.h"
#include "../../../sidecar-patch/native/envoy_abi.h"

#define MAX_MAP 8192
#define MAX_LOG 65536

const void *envoy_dynamic_module_on_http_filter_config_new(envoy_config, struct envoy_bytes, struct envoy_bytes);
void envoy_dynamic_module_on_http_filter_config_destroy(const void *);
const void *envoy_dynamic_module_on_http_filter_new(const void *, envoy_filter);
enum filter_status envoy_dynamic_module_on_http_filter_request_headers(envoy_filter, const void *, bool);
void *__real_malloc(size_t size);

static struct envoy_header map[MAX_MAP];
static size_t map_count;
static uint64_t counters[COUNTERS];
static char log_text[MAX_LOG];
static size_t log_length;
static uint32_t calls, fails_at, allocations, allocation_fails_at, stays, counters_fail;
static bool is_serving;

/* ---- what the module calls ---------------------------------------------------------------- */

static bool fails(void) {
    calls++;
    return fails_at != 0 && (calls == fails_at || (stays && calls > fails_at));
}

void *__wrap_malloc(size_t size) {
    if (is_serving && ++allocations == allocation_fails_at)
        return NULL;
    return __real_malloc(size);
}

static char *copy(const char *text, size_t length) {
    char *made = __real_malloc(length + (length == 0));
    memcpy(made, text, length);
    return made;
}

static void append(struct module_bytes name, struct module_bytes value) {
    if (map_count == MAX_MAP)
        abort();
    map[map_count++] = (struct envoy_header){
        copy(name.ptr, name.length), name.length, copy(value.ptr, value.length), value.length};
}

static void drop(size_t at) {
    free((void *)map[at].name);
    free((void *)map[at].value);
    memmove(&map[at], &map[at + 1], (--map_count - at) * sizeof *map);
}

void envoy_dynamic_module_callback_log(enum log_level level, struct module_bytes message) {
    if (level != LOG_ERROR || log_length + message.length + 1 > MAX_LOG)
        abort();
    memcpy(log_text + log_length, message.ptr, message.length);
    log_length += message.length;
    log_text[log_length++] = '\n';
}

enum metrics_result envoy_dynamic_module_callback_http_filter_config_define_counter(
    envoy_config config, struct module_bytes name, struct module_bytes *labels, size_t label_count, size_t *id) {
    static const char *const names[COUNTERS] = {
        "relocated_total", "relocate_held_total", "relocate_skipped_total", "relocate_errors_total"};
    if (config != (void *)map || labels != NULL || label_count != 0)
        abort();
    for (size_t at = 0; at < COUNTERS; at++) {
        if (strlen(names[at]) == name.length && memcmp(names[at], name.ptr, name.length) == 0)
            *id = at + 100;
    }
    return counters_fail ? METRICS_SUCCESS + 3 : METRICS_SUCCESS;
}

enum metrics_result envoy_dynamic_module_callback_http_filter_increment_counter(
    envoy_filter filter, size_t id, struct module_bytes *label_values, size_t label_count, uint64_t by) {
    if (filter != (void *)&map_count || label_values != NULL || label_count != 0)
        abort();
    if (counters_fail)
        abort();
    counters[id - 100] += by;
    return METRICS_SUCCESS;
}

size_t envoy_dynamic_module_callback_http_get_headers_size(envoy_filter filter, enum header_type type) {
    if (filter != (void *)&map_count || type != REQUEST_HEADER)
        abort();
    return fails() ? 0 : map_count;
}

bool envoy_dynamic_module_callback_http_get_headers(
    envoy_filter filter, enum header_type type, struct envoy_header *headers) {
    if (filter != (void *)&map_count || type != REQUEST_HEADER)
        abort();
    if (fails())
        return false;
    memcpy(headers, map, map_count * sizeof *map);
    return true;
}

bool envoy_dynamic_module_callback_http_add_header(
    envoy_filter filter, enum header_type type, struct module_bytes name, struct module_bytes value) {
    if (filter != (void *)&map_count || type != REQUEST_HEADER)
        abort();
    if (fails() || value.ptr == NULL || value.length == 0)
        return false;
    append(name, value);
    return true;
}

bool envoy_dynamic_module_callback_http_set_header(
    envoy_filter filter, enum header_type type, struct module_bytes name, struct module_bytes value) {
    if (filter != (void *)&map_count || type != REQUEST_HEADER)
        abort();
    if (fails())
        return false;
    for (size_t at = map_count; at-- > 0;) {
        if (map[at].name_length == name.length && memcmp(map[at].name, name.ptr, name.length) == 0)
            drop(at);
    }
    if (value.ptr != NULL && value.length > 0)
        append(name, value);
    return true;
}

/* ---- commands ----------------------------------------------------------------------------- */

static uint32_t get_number(void) {
    uint32_t number;
    if (fread(&number, sizeof number, 1, stdin) != 1)
        exit(1);
    return number;
}

static char *get_text(size_t *length) {
    *length = get_number();
    char *text = __real_malloc(*length + 1);
    if (*length > 0 && fread(text, *length, 1, stdin) != 1)
        exit(1);
    return text;
}

static void put_number(uint64_t number) {
    uint32_t small = (uint32_t)number;
    fwrite(&small, sizeof small, 1, stdout);
}

static void put_text(const char *text, size_t length) {
    put_number(length);
    fwrite(text, 1, length, stdout);
}

static const void *configure(const void *old) {
    size_t length;
    char *text = get_text(&length);
    counters_fail = get_number();
    log_length = 0;
    if (old != NULL)
        envoy_dynamic_module_on_http_filter_config_destroy(old);
    const void *config = envoy_dynamic_module_on_http_filter_config_new(
        map, (struct envoy_bytes){"relocate", 8}, (struct envoy_bytes){length > 0 ? text : NULL, length});
    free(text);
    put_number(config != NULL);
    put_text(log_text, log_length);
    return config;
}

static void read_map(void) {
    for (uint32_t count = get_number(); count > 0; count--) {
        size_t name_length, value_length;
        char *name = get_text(&name_length), *value = get_text(&value_length);
        append((struct module_bytes){name, name_length}, (struct module_bytes){value, value_length});
        free(name);
        free(value);
    }
}

static void serve(const void *config) {
    fails_at = get_number();
    allocation_fails_at = get_number();
    stays = get_number();
    read_map();
    memset(counters, 0, sizeof counters);
    calls = allocations = 0;
    is_serving = true;
    const void *module = envoy_dynamic_module_on_http_filter_new(config, &map_count);
    if (envoy_dynamic_module_on_http_filter_request_headers(&map_count, module, true) != STATUS_CONTINUE)
        abort();
    is_serving = false;
    put_number(calls);
    for (size_t at = 0; at < COUNTERS; at++)
        put_number(counters[at]);
    put_number(map_count);
    for (size_t at = 0; at < map_count; at++) {
        put_text(map[at].name, map[at].name_length);
        put_text(map[at].value, map[at].value_length);
    }
    while (map_count > 0)
        drop(map_count - 1);
}

int main(void) {
    const void *config = NULL;
    for (int command = getchar(); command != EOF; command = getchar()) {
        if (command == 'c')
            config = configure(config);
        else
            serve(config);
        fflush(stdout);
    }
    if (config != NULL)
        envoy_dynamic_module_on_http_filter_config_destroy(config);
    return 0;
}
