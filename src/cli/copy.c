#include "cli/copy.h"
int copy_tree(struct cmd_env *env, const char *from) { (void)env; (void)from; return 1; }
