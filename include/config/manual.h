/*
 * What the table of settings says to people: the sample file and the manual page's section.
 * scripts/generate-docs writes both into conf/weir.ini and man/weir.ini.5; a unit test fails
 * when they are not what this file makes. Pure.
 */
#ifndef WEIR_CONFIG_MANUAL_H
#define WEIR_CONFIG_MANUAL_H

#include "core/buf.h"

/* The lines in man/weir.ini.5 between which the generated section stands. */
#define MANUAL_BEGIN ".\\\" begin of the settings, made by scripts/generate-docs\n"
#define MANUAL_END   ".\\\" end of the settings\n"

/* Appends conf/weir.ini: every setting as a comment with its default, which Weir itself reads. */
void manual_append_sample(struct buf *text);

/* Appends the section of the manual page, in roff, without the two lines around it. */
void manual_append_settings(struct buf *text);

/* Puts a new section between the two lines of `page`. False if the page has not both of them. */
bool manual_replace_settings(struct bytes page, struct buf *text);

#endif
