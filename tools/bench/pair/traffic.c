/*
 * Traffic between two pods, and what became of it.
 *
 *     traffic echo PORT               sends back what comes on each TCP connection
 *     traffic load HOST PORT FLOWS    a thousand pings a second, and FLOWS TCP connections that each send a line every 100 ms
 *
 * Of load: a line on stdin asks for a line of JSON; the end of stdin ends it.
 *     sent, answered   pings; lost: unanswered, of those older than 100 ms
 *     flows            connections still open; broken: reset, closed, or silent for 5 s (told once)
 *     echoed           messages that came back
 *     late             longest time in ms that this program itself did not run; what it would have sent then is not sent, nor missed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { PINGS_MAX = 1 << 23, GRACE_MS = 100, TURN_MS = 100, SILENT_MS = 5000, MESSAGE = 64, EVENTS = 256 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void watch(int epoll, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void echo(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1024) < 0) die("listen");
  watch(epoll, listener, EPOLLIN, listener);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.u64;
      char bytes[4096];
      if (fd == listener) {
        int flow = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (flow >= 0) watch(epoll, flow, EPOLLIN, flow);
        continue;
      }
      ssize_t length = read(fd, bytes, sizeof bytes);
      if (length > 0) {
        if (write(fd, bytes, length) != length) close(fd);
      } else if (length == 0 || errno != EAGAIN)
        close(fd);
    }
  }
}

struct flow {
  int fd;
  int64_t heard_ms;
};

static struct flow *flows;
static int flow_count, broken;
static uint64_t echoed_bytes;

static void break_flow(struct flow *flow) {
  if (flow->fd < 0) return;
  close(flow->fd);
  flow->fd = -1;
  broken++;
}

static void open_flows(int epoll, struct sockaddr_in to) {
  for (int i = 0; i < flow_count; i++) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    flows[i] = (struct flow){.fd = fd, .heard_ms = now_ms()};
    watch(epoll, fd, EPOLLIN | EPOLLRDHUP, 16 + i);
  }
}

static void hear_flow(struct flow *flow) {
  char bytes[4096];
  for (;;) {
    ssize_t length = flow->fd < 0 ? -1 : read(flow->fd, bytes, sizeof bytes);
    if (length > 0) {
      echoed_bytes += length;
      flow->heard_ms = now_ms();
      continue;
    }
    if (length == 0 || errno != EAGAIN) break_flow(flow);
    return;
  }
}

static uint8_t *answered;
static uint32_t sent, answered_count, late_ms;
static int64_t *sent_ms;

static uint16_t checksum(const uint8_t *bytes, int length) {
  uint32_t sum = 0;
  for (int i = 0; i < length; i += 2) sum += bytes[i] << 8 | bytes[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons(~sum);
}

static void ping(int icmp, struct sockaddr_in to, uint16_t id) {
  uint8_t packet[16] = {ICMP_ECHO};
  struct icmphdr *header = (struct icmphdr *)packet;
  if (sent == PINGS_MAX) return;
  header->un.echo.id = id;
  header->un.echo.sequence = htons(sent & 0xffff);
  memcpy(packet + 8, &sent, 4);
  header->checksum = checksum(packet, sizeof packet);
  sent_ms[sent++] = now_ms();
  sendto(icmp, packet, sizeof packet, 0, (struct sockaddr *)&to, sizeof to); /* a packet that cannot leave is a lost one */
}

static void hear_pings(int icmp, uint16_t id) {
  uint8_t packet[256];
  ssize_t length;
  while ((length = recv(icmp, packet, sizeof packet, MSG_DONTWAIT)) > 0) {
    int at = (packet[0] & 15) * 4;
    struct icmphdr *header = (struct icmphdr *)(packet + at);
    uint32_t number;
    if (length < at + 12 || header->type != ICMP_ECHOREPLY || header->un.echo.id != id) continue;
    memcpy(&number, packet + at + 8, 4);
    if (number >= sent || answered[number]) continue;
    answered[number] = 1;
    answered_count++;
  }
}

static void report(void) {
  static uint32_t settled, settled_lost; /* pings older than ten graces do not come any more */
  int64_t now = now_ms();
  int open = 0;
  while (settled < sent && sent_ms[settled] < now - 10 * GRACE_MS) settled_lost += !answered[settled++];
  uint32_t lost = settled_lost;
  for (uint32_t i = settled; i < sent && sent_ms[i] < now - GRACE_MS; i++) lost += !answered[i];
  for (int i = 0; i < flow_count; i++) open += flows[i].fd >= 0;
  printf("{\"sent\":%u,\"answered\":%u,\"lost\":%u,\"flows\":%d,\"broken\":%d,\"echoed\":%llu,\"late\":%u}\n", sent, answered_count, lost, open, broken,
         (unsigned long long)echoed_bytes / MESSAGE, late_ms);
  fflush(stdout);
}

static int load(const char *host, int port, int count) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  struct itimerspec every = {{0, 1000000}, {0, 1000000}};
  struct rlimit files = {count + 64, count + 64};
  char message[MESSAGE] = {0};
  int epoll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  int room = 1 << 20;
  uint16_t id = htons(getpid() & 0xffff);
  uint64_t tick = 0;
  setrlimit(RLIMIT_NOFILE, &files);
  if (inet_pton(AF_INET, host, &to.sin_addr) != 1 || icmp < 0) die(host);
  setsockopt(icmp, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  answered = calloc(PINGS_MAX, 1);
  sent_ms = calloc(PINGS_MAX, sizeof *sent_ms);
  flows = calloc(count, sizeof *flows);
  flow_count = count;
  open_flows(epoll, to);
  timerfd_settime(timer, 0, &every, NULL);
  watch(epoll, 0, EPOLLIN, 0);
  watch(epoll, timer, EPOLLIN, 1);
  watch(epoll, icmp, EPOLLIN, 2);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < ready; i++) {
      uint64_t which = events[i].data.u64, ticks = 0;
      char bytes[256];
      if (which == 0) {
        ssize_t length = read(0, bytes, sizeof bytes);
        if (length <= 0) return 0;
        report();
      } else if (which == 1 && read(timer, &ticks, sizeof ticks) == sizeof ticks) {
        if (ticks > late_ms) late_ms = ticks;
        if (ticks > SILENT_MS / 10) /* who slept hears nothing */
          for (int flow = 0; flow < flow_count; flow++) flows[flow].heard_ms = now_ms();
        ping(icmp, to, id);
        for (int flow = tick++ % TURN_MS; flow < flow_count; flow += TURN_MS) {
          struct flow *one = &flows[flow];
          if (one->fd < 0) continue;
          if (now_ms() - one->heard_ms > SILENT_MS) break_flow(one);
          else if (write(one->fd, message, MESSAGE) < 0 && errno != EAGAIN) break_flow(one);
        }
      } else if (which == 2)
        hear_pings(icmp, id);
      else if (which >= 16)
        hear_flow(&flows[which - 16]);
    }
  }
}

int main(int argc, char **argv) {
  setpriority(PRIO_PROCESS, 0, -20); /* the network is measured, not the scheduler */
  if (argc == 3 && !strcmp(argv[1], "echo")) echo(atoi(argv[2]));
  if (argc == 5 && !strcmp(argv[1], "load")) return load(argv[2], atoi(argv[3]), atoi(argv[4]));
  fprintf(stderr, "usage: traffic echo PORT | traffic load HOST PORT FLOWS\n");
  return 2;
}
