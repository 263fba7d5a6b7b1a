/*
 * Parse trees in protobuf's packed form (protobuf's "Encoding" manual):
 *
 *      message := field*
 *      field   := key value            key = number << 3 | wire type, a varint
 *      value   := varint               wire type 0
 *               | 8 bytes              1
 *               | length bytes         2: texts and messages
 *               | 4 bytes              5
 *
 * The structs below are those of protobuf-c 1.x, whose layout is its ABI; its header is not part
 * of what libpg_query installs.
 */
#include "sql/tree.h"

#include "core/check.h"

#define TREE_MAGIC 0x28AAEEF9u

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* ProtobufCType, as far as packed trees use it. */
enum packed_type { PACKED_ENUM = 13, PACKED_STRING = 14, PACKED_BYTES = 15, PACKED_MESSAGE = 16 };

struct tree_field_type {
    const char *name;
    uint32_t id;
    int label;
    int type;
    unsigned quantifier_offset;
    unsigned offset;
    const void *descriptor;
    const void *default_value;
    uint32_t flags;
    unsigned reserved_flags;
    void *reserved[2];
};

struct tree_type {
    uint32_t magic;
    const char *name;
    const char *short_name;
    const char *c_name;
    const char *package_name;
    size_t struct_size;
    unsigned fields_count;
    const struct tree_field_type *fields;
};

struct tree_choice_value {
    const char *name;
    const char *c_name;
    int value;
};

extern const struct tree_type pg_query__parse_result__descriptor;
extern const struct tree_type pg_query__node__descriptor;
const struct tree_field_type *protobuf_c_message_descriptor_get_field(const struct tree_type *type,
                                                                      unsigned id);
const struct tree_choice_value *protobuf_c_enum_descriptor_get_value(const void *type, int value);

struct tree_node tree_root(struct bytes packed) {
    CHECK(pg_query__parse_result__descriptor.magic == TREE_MAGIC);
    const uint8_t *at = (const uint8_t *)packed.at;
    return (struct tree_node){&pg_query__parse_result__descriptor, at, at + packed.len};
}

const char *tree_type_name(const struct tree_node *node) {
    return node->type->short_name;
}

bool tree_is_broken(const struct tree_node *node) {
    return node->at == NULL;
}

static bool tree_break(struct tree_node *node) {
    node->at = node->end = NULL;
    return false;
}

/* Reads a varint; false if the node ends within it or it has more than 64 bits. */
static bool read_varint(struct tree_node *node, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && node->at < node->end; shift += 7) {
        uint8_t byte = *node->at++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/* Passes over `len` bytes and gives a view of them. */
static bool read_bytes(struct tree_node *node, uint64_t len, struct bytes *bytes) {
    if (len > (uint64_t)(node->end - node->at)) return false;
    *bytes = bytes_of((const char *)node->at, (size_t)len);
    node->at += len;
    return true;
}

static void fill_field(const struct tree_field_type *type, enum wire_type wire, struct bytes bytes,
                       struct tree_field *field) {
    field->name = type->name;
    if (wire == WIRE_VARINT && type->type == PACKED_ENUM) {
        const struct tree_choice_value *value =
            protobuf_c_enum_descriptor_get_value(type->descriptor, (int)field->number);
        field->kind = TREE_CHOICE;
        field->choice = value == NULL ? "" : value->name;
    } else if (wire == WIRE_BYTES && type->type == PACKED_MESSAGE) {
        const uint8_t *at = (const uint8_t *)bytes.at;
        field->kind = TREE_NODE;
        field->node = (struct tree_node){type->descriptor, at, at + bytes.len};
    } else if (wire == WIRE_BYTES && (type->type == PACKED_STRING || type->type == PACKED_BYTES)) {
        field->kind = TREE_TEXT;
        field->text = bytes;
    } else {
        field->kind = TREE_NUMBER;
    }
}

/* Reads one field as it stands, wrappers included; false at the end or if it is broken. */
static bool next_wrapped(struct tree_node *node, struct tree_field *field) {
    uint64_t key = 0;
    if (node->at >= node->end) return false;
    if (!read_varint(node, &key)) return tree_break(node);
    const struct tree_field_type *type =
        protobuf_c_message_descriptor_get_field(node->type, (unsigned)(key >> 3));
    struct bytes bytes = {NULL, 0};
    uint64_t len = 0;
    bool is_read = false;
    *field = (struct tree_field){.choice = ""};
    switch (key & 7) {
    case WIRE_VARINT:
        is_read = read_varint(node, &field->number);
        break;
    case WIRE_BYTES:
        is_read = read_varint(node, &len) && read_bytes(node, len, &bytes);
        break;
    case WIRE_64:
        is_read = read_bytes(node, 8, &bytes);
        break;
    case WIRE_32:
        is_read = read_bytes(node, 4, &bytes);
        break;
    default:
        break;
    }
    if (!is_read || type == NULL) return tree_break(node);
    fill_field(type, (enum wire_type)(key & 7), bytes, field);
    return true;
}

/* The node inside a "Node"; the wrapper itself if it is empty, as in a list with a gap. */
static struct tree_node unwrap(struct tree_node node) {
    if (node.type != &pg_query__node__descriptor) return node;
    struct tree_node rest = node;
    struct tree_field field;
    return next_wrapped(&rest, &field) && field.kind == TREE_NODE ? field.node : node;
}

bool tree_next(struct tree_node *node, struct tree_field *field) {
    if (!next_wrapped(node, field)) return false;
    if (field->kind == TREE_NODE) field->node = unwrap(field->node);
    return true;
}

bool tree_next_named(struct tree_node *node, const char *name, struct tree_field *field) {
    while (tree_next(node, field)) {
        if (strcmp(field->name, name) == 0) return true;
    }
    return false;
}

struct bytes tree_text(const struct tree_node *node, const char *name) {
    struct tree_node rest = *node;
    struct tree_field field;
    return tree_next_named(&rest, name, &field) ? field.text : bytes_of("", 0);
}

uint64_t tree_number(const struct tree_node *node, const char *name) {
    struct tree_node rest = *node;
    struct tree_field field;
    return tree_next_named(&rest, name, &field) ? field.number : 0;
}

const char *tree_choice(const struct tree_node *node, const char *name) {
    struct tree_node rest = *node;
    struct tree_field field;
    return tree_next_named(&rest, name, &field) ? field.choice : "";
}

bool tree_child(const struct tree_node *node, const char *name, struct tree_node *child) {
    struct tree_node rest = *node;
    struct tree_field field;
    if (!tree_next_named(&rest, name, &field) || field.kind != TREE_NODE) return false;
    *child = field.node;
    return true;
}
