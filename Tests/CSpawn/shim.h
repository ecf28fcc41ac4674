#pragma once
#include <spawn.h>

// Of glibc, which shows them to GNU sources alone: Swift's are none.
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path);
