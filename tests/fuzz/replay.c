/*
 * Feeds files to a fuzz target without a fuzzer: `replay FOLDER` calls LLVMFuzzerTestOneInput with
 * the content of each file in FOLDER, once whole and once cut in the middle, and prints how many
 * there were. It works with any compiler, so that what fuzzing once found is tested in every run
 * under every sanitizer. An input that breaks a rule ends the process; its name is the last line.
 * A folder that is missing or empty is an error: a replay of nothing must not look like success.
 */
#include "core/buf.h"
#include "core/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SIZE_MAX (16u << 20)
#define PATH_SIZE     4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_file(const char *path, struct buf *content) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    buf_clear(content);
    size_t got;
    do {
        char *room = buf_room(content, 65536);
        got = fread(room, 1, 65536, file);
        buf_grown(content, got);
    } while (got > 0 && buf_length(content) < FILE_SIZE_MAX);
    bool is_whole = ferror(file) == 0 && feof(file) != 0;
    return fclose(file) == 0 && is_whole;
}

/* The target gets memory of exactly the input's size, so that a byte read behind it is noticed. */
static void run(const struct buf *content, size_t size) {
    uint8_t *exact = memory_new(size);
    if (size > 0) memcpy(exact, buf_content(content).at, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    memory_free(exact);
}

static int replay(const char *folder, DIR *directory) {
    struct buf content = {0};
    struct dirent *entry;
    int count = 0;
    while ((entry = readdir(directory)) != NULL) {
        char path[PATH_SIZE];
        if (entry->d_name[0] == '.') continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= PATH_SIZE ||
            !read_file(path, &content)) {
            (void)fprintf(stderr, "replay: cannot read %s/%s\n", folder, entry->d_name);
            exit(1);
        }
        (void)fprintf(stderr, "\r\033[K%s ", path);
        run(&content, buf_length(&content));
        run(&content, buf_length(&content) / 2);
        count++;
    }
    buf_release(&content);
    return count;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        (void)fprintf(stderr, "usage: replay FOLDER\n");
        return 2;
    }
    DIR *directory = opendir(argv[1]);
    if (directory == NULL) {
        (void)fprintf(stderr, "replay: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    int count = replay(argv[1], directory);
    (void)closedir(directory);
    (void)fprintf(stderr, "\r\033[K");
    (void)printf("%s: %d inputs\n", argv[1], count);
    return count > 0 ? 0 : 1;
}
