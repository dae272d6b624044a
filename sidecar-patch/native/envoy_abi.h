/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of Envoy's ABI for dynamic modules (Envoy 1.38 to 1.40) that relocate.c uses, in our own words.
 *
 * Envoy calls what begins with envoy_dynamic_module_on_, and this module calls what begins with
 * envoy_dynamic_module_callback_, which Envoy's program exports. Names and arguments are Envoy's;
 * docs/sidecar-native.md says what was read and tried.
 */
#ifndef OVERHOP_ENVOY_ABI_H
#define OVERHOP_ENVOY_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Without this a symbol stays inside the library. */
#define EXPORT __attribute__((visibility("default")))

/* Bytes that Envoy owns: valid until the header map changes. */
struct envoy_bytes {
    const char *ptr;
    size_t length;
};

/* Bytes of this module, which Envoy copies. */
struct module_bytes {
    const char *ptr;
    size_t length;
};

struct envoy_header {
    const char *name;
    size_t name_length;
    const char *value;
    size_t value_length;
};

enum header_type { REQUEST_HEADER };
enum log_level { LOG_ERROR = 4 };
enum metrics_result { METRICS_SUCCESS };
enum filter_status { STATUS_CONTINUE };

typedef void *envoy_config;
typedef void *envoy_filter;

void envoy_dynamic_module_callback_log(enum log_level level, struct module_bytes message);
/* New in 1.40: not called, only looked at, to know which Envoy this is. */
void envoy_dynamic_module_callback_log_v2(void) __attribute__((weak));

/* A counter without labels; `id` is written on success. Only while the configuration is made. */
enum metrics_result envoy_dynamic_module_callback_http_filter_config_define_counter(
    envoy_config config, struct module_bytes name, struct module_bytes *labels, size_t label_count, size_t *id);
enum metrics_result envoy_dynamic_module_callback_http_filter_increment_counter(
    envoy_filter filter, size_t id, struct module_bytes *label_values, size_t label_count, uint64_t by);

size_t envoy_dynamic_module_callback_http_get_headers_size(envoy_filter filter, enum header_type type);
/* `headers` has room for as many as get_headers_size says; in the order of the header map. */
bool envoy_dynamic_module_callback_http_get_headers(
    envoy_filter filter, enum header_type type, struct envoy_header *headers);
/* Adds at the end of the map. */
bool envoy_dynamic_module_callback_http_add_header(
    envoy_filter filter, enum header_type type, struct module_bytes name, struct module_bytes value);
/*
 * Removes all of this name and adds one at the end of the map. With an empty value, not only with a null pointer, it
 * only removes, and add_header refuses one (1.38.3, 1.39.3, 1.40.0): a header without a value cannot be moved.
 */
bool envoy_dynamic_module_callback_http_set_header(
    envoy_filter filter, enum header_type type, struct module_bytes name, struct module_bytes value);
#endif
