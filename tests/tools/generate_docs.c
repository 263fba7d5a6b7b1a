/*
 * Writes what the table of settings says into the sample file and the manual page:
 *
 *      generate_docs conf/weir.ini man/weir.ini.5
 *
 * The sample is written anew; of the page only the part between its two marker lines. Files that
 * are up to date are left alone. Run by scripts/generate-docs.
 */
#include "config/manual.h"

#include <stdio.h>
#include <stdlib.h>

static void stop(const char *what, const char *file) {
    (void)fprintf(stderr, "generate_docs: %s %s\n", what, file);
    exit(1);
}

static void file_read(const char *name, struct buf *text) {
    FILE *file = fopen(name, "r");
    if (file == NULL) return;
    size_t n;
    while ((n = fread(buf_room(text, BUFSIZ), 1, BUFSIZ, file)) > 0) buf_grown(text, n);
    (void)fclose(file);
}

static void file_write(const char *name, struct bytes old, struct bytes text) {
    if (bytes_equal(old, text)) return;
    FILE *file = fopen(name, "w");
    if (file == NULL || fwrite(text.at, 1, text.len, file) != text.len || fclose(file) != 0)
        stop("cannot write", name);
    (void)printf("%s: updated\n", name);
}

int main(int argc, char **argv) {
    if (argc != 3) stop("expected two files: sample and page", "");
    struct buf old = {0};
    struct buf text = {0};
    file_read(argv[1], &old);
    manual_append_sample(&text);
    file_write(argv[1], buf_content(&old), buf_content(&text));
    buf_clear(&old);
    buf_clear(&text);
    file_read(argv[2], &old);
    if (!manual_replace_settings(buf_content(&old), &text)) stop("no marker lines in", argv[2]);
    file_write(argv[2], buf_content(&old), buf_content(&text));
    buf_release(&old);
    buf_release(&text);
    return 0;
}
