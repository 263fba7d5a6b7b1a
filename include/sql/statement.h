/*
 * What the nodes of a parse tree say about a statement: one table, with a row for each type of
 * node that says anything.
 */
#ifndef WEIR_SQL_STATEMENT_H
#define WEIR_SQL_STATEMENT_H

#include "sql/findings.h"
#include "sql/tree.h"

/* Adds to the findings what this node says. True if its children have to be looked at too. */
bool statement_look(struct findings *findings, const struct tree_node *node);

#endif
