/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_COMMON_STDFDS_H
#define TOOLS_COMMON_STDFDS_H

/*
 * Call first thing in main(). A program that is started with standard descriptors closed gets their
 * numbers for the next files that it opens, and then writes its log lines into them, into the
 * shared memory for one. So whatever of 0, 1 and 2 is closed is opened on /dev/null. 0 or -errno.
 */
int stdfds_open(void);

/*
 * Let go of all other descriptors that we were started with and that children get, as --ready-fd of
 * one: they are /dev/null from now on. What has close-on-exec, as all of ours, stays as it is.
 */
void stdfds_replace_inherited(void);

#endif
