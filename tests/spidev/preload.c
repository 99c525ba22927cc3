/*
 * Stands in for /dev/spidevB.D: loaded with LD_PRELOAD, it takes the open of SPIDEV_TEST_DEVICE and the ioctls on it,
 * judges them as the Linux driver does (drivers/spi/spidev.c: spidev_ioctl, spidev_get_ioc_message, spidev_message),
 * and hands the octets of each chip-select assertion to the chip behind the Unix socket SPIDEV_TEST_SOCKET.
 *
 * SPIDEV_TEST_BUFSIZ  a file with the size of the kernel's buffer; shows as the module's parameter, and is heeded
 * SPIDEV_TEST_ALIGN   ARCH_DMA_MINALIGN of the machine that is played
 * SPIDEV_TEST_MODE    mode bits that an earlier user of the device has left
 *
 * To the chip, in this machine's byte order: u32 message = {mode, bits, left_selected, assertions}, for each assertion
 * {octets, speed_hz}, then all octets. Back: u32 errno, and with 0 as many octets as were sent.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/spi/spidev.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#define BUFSIZ_PARAMETER "/sys/module/spidev/parameters/bufsiz"
#define FILES 1024
#define ASSERTIONS 512
#define LARGEST_MESSAGE (1 << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char is_device[FILES];
static int lock_of[FILES]; /* flock is on the device, which all who have it open share */

/* What the kernel keeps for the device, whoever has it open. */
static uint32_t mode, speed_hz = 125000000;
static uint8_t bits_per_word = 8;

static unsigned char tx_buffer[LARGEST_MESSAGE], rx_buffer[LARGEST_MESSAGE];

__attribute__((constructor)) static void start(void)
{
	const char *left = getenv("SPIDEV_TEST_MODE");

	if (left)
		mode = strtoul(left, NULL, 0);
}

static unsigned long number_of(const char *name, unsigned long otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 0) : otherwise;
}

static const char *redirected(const char *path)
{
	const char *file = getenv("SPIDEV_TEST_BUFSIZ");

	return file && !strcmp(path, BUFSIZ_PARAMETER) ? file : path;
}

static unsigned long bufsiz(void)
{
	const char *path = getenv("SPIDEV_TEST_BUFSIZ");
	FILE *file = path ? fopen(path, "r") : NULL;
	unsigned long size = 4096;

	if (file) {
		if (fscanf(file, "%lu", &size) != 1)
			size = 4096;
		fclose(file);
	}
	return size;
}

static int is_the_device(const char *path)
{
	const char *device = getenv("SPIDEV_TEST_DEVICE");

	return device && !strcmp(path, device);
}

static int open_lock(const char *socket_path)
{
	char path[sizeof ((struct sockaddr_un *)0)->sun_path + 8];
	int fd;

	snprintf(path, sizeof path, "%s.lock", socket_path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		abort();
	return fd;
}

static int open_device(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("SPIDEV_TEST_SOCKET");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || fd >= FILES || !path)
		abort();
	strncpy(address.sun_path, path, sizeof address.sun_path - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
		close(fd);
		errno = ENOENT;
		return -1;
	}
	is_device[fd] = 1;
	lock_of[fd] = open_lock(path);
	return fd;
}

/* --- what is intercepted -------------------------------------------------------------------------------------- */

#define OPENED(name, ...)                                                                  \
	do {                                                                               \
		static int (*real)(__VA_ARGS__, int, mode_t);                              \
		mode_t permissions = 0;                                                    \
		va_list rest;                                                              \
		if (flags & (O_CREAT | __O_TMPFILE)) {                                     \
			va_start(rest, flags);                                             \
			permissions = va_arg(rest, mode_t);                                \
			va_end(rest);                                                      \
		}                                                                          \
		if (is_the_device(path))                                                   \
			return open_device();                                              \
		if (!real)                                                                 \
			*(void **)&real = dlsym(RTLD_NEXT, name);                          \
		return REAL_CALL;                                                          \
	} while (0)

#define REAL_CALL real(redirected(path), flags, permissions)
int open(const char *path, int flags, ...) { OPENED("open", const char *); }
int open64(const char *path, int flags, ...) { OPENED("open64", const char *); }
#undef REAL_CALL
#define REAL_CALL real(folder, redirected(path), flags, permissions)
int openat(int folder, const char *path, int flags, ...) { OPENED("openat", int, const char *); }
int openat64(int folder, const char *path, int flags, ...) { OPENED("openat64", int, const char *); }

int close(int fd)
{
	static int (*real)(int);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "close");
	if (fd >= 0 && fd < FILES && is_device[fd]) {
		is_device[fd] = 0;
		real(lock_of[fd]);
	}
	return real(fd);
}

int flock(int fd, int operation)
{
	static int (*real)(int, int);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "flock");
	return real(fd >= 0 && fd < FILES && is_device[fd] ? lock_of[fd] : fd, operation);
}

/* --- the driver ----------------------------------------------------------------------------------------------- */

static int all(int fd, void *data, size_t size, ssize_t (*move)(int, void *, size_t, int))
{
	char *at = data;

	while (size) {
		ssize_t moved = move(fd, at, size, MSG_NOSIGNAL);

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return -1;
		at += moved;
		size -= moved;
	}
	return 0;
}

static ssize_t send_some(int fd, void *data, size_t size, int flags) { return send(fd, data, size, flags); }
static ssize_t receive_some(int fd, void *data, size_t size, int flags) { return recv(fd, data, size, flags); }

static int fault(int number)
{
	errno = number;
	return -1;
}

/* SPI_IOC_MESSAGE(n): spidev_get_ioc_message and spidev_message. */
static int message(int fd, unsigned long request, const struct spi_ioc_transfer *transfers)
{
	unsigned long size = _IOC_SIZE(request), align = number_of("SPIDEV_TEST_ALIGN", 8), most = bufsiz();
	unsigned long count = size / sizeof *transfers, tx_total = 0, rx_total = 0, total = 0, n;
	uint32_t head[4 + 2 * ASSERTIONS] = { mode, 8, 0, 0 }, answer;
	int selected = 0;

	if (size % sizeof *transfers)
		return fault(EINVAL);
	if (!count)
		return 0;
	for (n = 0; n < count; n++) {
		const struct spi_ioc_transfer *one = &transfers[n];
		unsigned long place = (one->len + align - 1) / align * align;

		if (one->rx_buf && (rx_total += place) > most)
			return fault(EMSGSIZE);
		if (one->tx_buf && (tx_total += place) > most)
			return fault(EMSGSIZE);
		if (total + one->len > LARGEST_MESSAGE)
			return fault(EMSGSIZE);
		if (one->tx_nbits > 1 || one->rx_nbits > 1)
			return fault(EINVAL);
		if ((one->bits_per_word ? one->bits_per_word : bits_per_word) != 8)
			head[1] = one->bits_per_word ? one->bits_per_word : bits_per_word;
		if (one->tx_buf)
			memcpy(tx_buffer + total, (void *)(uintptr_t)one->tx_buf, one->len);
		else
			memset(tx_buffer + total, 0, one->len);
		total += one->len;

		/* One assertion of /CS goes on until a transfer with cs_change, or the end. */
		if (!selected)
			head[3]++;
		head[4 + 2 * (head[3] - 1)] = selected ? head[4 + 2 * (head[3] - 1)] + one->len : one->len;
		head[5 + 2 * (head[3] - 1)] = one->speed_hz ? one->speed_hz : speed_hz;
		selected = !one->cs_change;
	}
	/* cs_change in the last transfer means the contrary: the chip stays selected. */
	head[2] = !!transfers[count - 1].cs_change;

	if (all(fd, head, (4 + 2 * head[3]) * sizeof *head, send_some) || all(fd, tx_buffer, total, send_some)
	    || all(fd, &answer, sizeof answer, receive_some))
		return fault(ESHUTDOWN);
	if (answer)
		return fault(answer);
	if (all(fd, rx_buffer, total, receive_some))
		return fault(ESHUTDOWN);
	for (n = 0, total = 0; n < count; total += transfers[n++].len)
		if (transfers[n].rx_buf)
			memcpy((void *)(uintptr_t)transfers[n].rx_buf, rx_buffer + total, transfers[n].len);
	return total;
}

static int device_ioctl(int fd, unsigned long request, void *argument)
{
	switch (request) {
	case SPI_IOC_RD_MODE:
		*(uint8_t *)argument = mode;
		return 0;
	case SPI_IOC_RD_MODE32:
		*(uint32_t *)argument = mode;
		return 0;
	case SPI_IOC_RD_LSB_FIRST:
		*(uint8_t *)argument = !!(mode & SPI_LSB_FIRST);
		return 0;
	case SPI_IOC_RD_BITS_PER_WORD:
		*(uint8_t *)argument = bits_per_word;
		return 0;
	case SPI_IOC_RD_MAX_SPEED_HZ:
		*(uint32_t *)argument = speed_hz;
		return 0;
	case SPI_IOC_WR_MODE:
		mode = (mode & ~0xffu) | *(uint8_t *)argument;
		return 0;
	case SPI_IOC_WR_MODE32:
		mode = *(uint32_t *)argument;
		return 0;
	case SPI_IOC_WR_LSB_FIRST:
		mode = *(uint8_t *)argument ? mode | SPI_LSB_FIRST : mode & ~SPI_LSB_FIRST;
		return 0;
	case SPI_IOC_WR_BITS_PER_WORD:
		bits_per_word = *(uint8_t *)argument;
		return 0;
	case SPI_IOC_WR_MAX_SPEED_HZ:
		if (!*(uint32_t *)argument)
			return fault(EINVAL);
		speed_hz = *(uint32_t *)argument;
		return 0;
	}
	if (_IOC_TYPE(request) != SPI_IOC_MAGIC || _IOC_NR(request) != 0 || _IOC_DIR(request) != _IOC_WRITE)
		return fault(ENOTTY);
	return message(fd, request, argument);
}

int ioctl(int fd, unsigned long request, ...)
{
	static int (*real)(int, unsigned long, void *);
	void *argument;
	va_list rest;
	int result;

	va_start(rest, request);
	argument = va_arg(rest, void *);
	va_end(rest);
	if (fd >= 0 && fd < FILES && is_device[fd]) {
		pthread_mutex_lock(&lock);
		result = device_ioctl(fd, request, argument);
		pthread_mutex_unlock(&lock);
		return result;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "ioctl");
	return real(fd, request, argument);
}
