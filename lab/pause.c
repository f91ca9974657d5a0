/* pid 1 of a lab node: reaps orphans, ends on SIGTERM or SIGINT. When it ends, the kernel kills all that lives in its pid namespace.
 * Static, so that it needs nothing of the node's root file system. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    sigset_t set;
    int signo;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    /* Blocked and waited for: pid 1 has no default actions, and a handler could miss a child between two waits. */
    sigprocmask(SIG_BLOCK, &set, 0);
    for (;;) {
        while (waitpid(-1, 0, WNOHANG) > 0) {
        }
        if (sigwait(&set, &signo) == 0 && signo != SIGCHLD) return 0;
    }
}
