/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The restore of a whole sandbox, in its supervisor: the containers of the image register one by one (JoinRestore), and go through
 * the phases of a restore together (checkpoint/meeting.h): the last one of them to come so far lets all go on. When one fails, or the process
 * that restores it dies, all fail, and what is left of those that died is removed here. Meanwhile descriptors go from the init of
 * one container to those of others that share an object (checkpoint/native/exchange.h).
 */
#pragma once

struct session;
struct supervisor;

/* Ends it: those who restore notice. NULL: nothing. */
void session_free(struct session *s);
