/* What the tests share. */
#ifndef AFTERIMAGE_TESTS_COMMON_H
#define AFTERIMAGE_TESTS_COMMON_H

#include <afterimage.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(held) \
  do { \
    if (!(held)) { \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #held); \
      exit(1); \
    } \
  } while (0)

static const char RECIPE[] =
    "{\"version\": 1, \"prompts\": [\"a red circle above a blue square\"], \"seed\": 7, \"steps\": 4, \"size\": [64, 64]}";

/* The call ended with `code`, and said why, and what to do about it. */
static inline void failed(afterimage_code code, afterimage_error **place, afterimage_code expected, const char *word) {
  afterimage_error *error = *place;
  if (code != expected || error == NULL) {
    const char *text = afterimage_error_message(error);
    fprintf(stderr, "`%s`: code %d, not %d: %s\n", word, (int)code, (int)expected, text ? text : "no message");
    exit(1);
  }
  EXPECT(afterimage_error_code(error) == expected);
  const char *message = afterimage_error_message(error);
  if (strstr(message, word) == NULL) {
    fprintf(stderr, "no `%s` in `%s`\n", word, message);
    exit(1);
  }
  if (expected != AFTERIMAGE_CODE_CANCELLED) EXPECT(strlen(message) > 0);
  afterimage_error_hint(error);
  EXPECT(afterimage_error_free(error) == AFTERIMAGE_CODE_OK);
  EXPECT(afterimage_error_free(error) == AFTERIMAGE_CODE_HANDLE);
  EXPECT(afterimage_error_message(error) == NULL && afterimage_error_hint(error) == NULL);
}

static inline void fine(afterimage_code code, afterimage_error **place) {
  afterimage_error *error = *place; /* after the call: arguments are evaluated in any order */
  if (code != AFTERIMAGE_CODE_OK) {
    fprintf(stderr, "failed: %s\n", error ? afterimage_error_message(error) : "no message");
    exit(1);
  }
  EXPECT(error == NULL);
}

/* The bundled model, on the processor. */
static inline afterimage_model *opened(void) {
  afterimage_open_options options = {0};
  options.size = sizeof options;
  options.device = "cpu";
  afterimage_model *model = NULL;
  afterimage_error *error = NULL;
  fine(afterimage_model_open("bundled", &options, &model, &error), &error);
  return model;
}

#endif
