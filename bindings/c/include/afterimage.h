/* Afterimage: diffusion inference with training-free caching, as a C library.
 *
 * This file is made of the library's sources (bindings/c/src); a test holds it to them. docs/embedding.md is the guide.
 *
 * Every call returns a code; what went wrong is an object with a code, a message and a hint, if the caller gives a place for it, which is
 * set to null where nothing did. Handles are given out by the library and freed by the program; one that was freed already, or is of another
 * kind, is told and answered with an error. Texts are UTF-8. No call throws, and no call ends the program. */

#ifndef AFTERIMAGE_H
#define AFTERIMAGE_H

#include <stddef.h>
#include <stdint.h>

/**
 * The version of this interface: what a program compiled against one calls, every later library of the same number has. Structs grow within it.
 */
#define AFTERIMAGE_ABI_VERSION 1

/**
 * How a call ended. New numbers may come with later versions.
 */
enum afterimage_code
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * As it should.
   */
  AFTERIMAGE_CODE_OK = 0,
  /**
   * A model's configuration says something unreadable or unsupported.
   */
  AFTERIMAGE_CODE_CONFIG = 1,
  /**
   * Weights are missing, malformed or do not fit the model.
   */
  AFTERIMAGE_CODE_WEIGHTS = 2,
  /**
   * What was asked for makes no sense, or the recipe cannot be read or followed.
   */
  AFTERIMAGE_CODE_REQUEST = 3,
  /**
   * A cache rule cannot be planned for the run.
   */
  AFTERIMAGE_CODE_PLAN = 4,
  /**
   * The device is absent, lost or out of memory.
   */
  AFTERIMAGE_CODE_DEVICE = 5,
  /**
   * A file could not be read or written.
   */
  AFTERIMAGE_CODE_FILE = 6,
  /**
   * The run was cancelled.
   */
  AFTERIMAGE_CODE_CANCELLED = 7,
  /**
   * An argument is null, no UTF-8, of a wrong size or out of range, or the call has no place in a callback.
   */
  AFTERIMAGE_CODE_ARGUMENT = 8,
  /**
   * A handle was freed, was never given out, or is of another kind.
   */
  AFTERIMAGE_CODE_HANDLE = 9,
  /**
   * The buffer is too small.
   */
  AFTERIMAGE_CODE_BUFFER = 10,
  /**
   * The library failed where it should not; this is a defect of the library.
   */
  AFTERIMAGE_CODE_INTERNAL = 11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum afterimage_code afterimage_code;
#else
typedef int32_t afterimage_code;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Stops the runs that were given it, from any thread; one token may go with many runs, and does not go back. Owned by the program, which frees
 * it with `afterimage_cancel_free`.
 */
typedef struct afterimage_cancel afterimage_cancel;

/**
 * What went wrong: a code, a message and, where something can be done, a hint. Owned by the program, which frees it with
 * `afterimage_error_free`. It does not change, so any thread may read it.
 */
typedef struct afterimage_error afterimage_error;

/**
 * A model in memory. Runs on one model wait for each other, whatever thread they come from; runs on two models go on side by side. Owned by the
 * program, which frees it with `afterimage_model_free`.
 */
typedef struct afterimage_model afterimage_model;

/**
 * A recipe that is written down piece by piece, for programs that have no JSON at hand. Owned by the program, which frees it with
 * `afterimage_request_free`. Any thread may write into it.
 */
typedef struct afterimage_request afterimage_request;

/**
 * Pictures or films that a run has made. Owned by the program, which frees it with `afterimage_result_free`. It does not change, so any thread may
 * read it.
 */
typedef struct afterimage_result afterimage_result;

/**
 * Told something that the user should know, in UTF-8; the text lives as long as the call. It is called on the thread that called the library,
 * and neither throws nor jumps out.
 */
typedef void (*afterimage_warning_fn)(void *user_data, const char *text);

/**
 * How a model is opened. Set `size` to the size of this struct and all else to zero before anything else.
 */
typedef struct {
  /**
   * Bytes of this struct.
   */
  size_t size;
  /**
   * `auto`, `cpu`, `wgpu`, `vulkan`, `metal` or `cuda`; a number picks one of several, as in `cuda:1`. Null is `auto`.
   */
  const char *device;
  /**
   * A recipe as JSON, of which model, adapters, data type and the format of weights are taken; null is none.
   */
  const char *recipe;
  /**
   * Whether the kernels of a GPU go unchecked on its first use; 0 checks them.
   */
  uint32_t unchecked;
  /**
   * Told what the user should know; may be null.
   */
  afterimage_warning_fn warning;
  /**
   * Handed to `warning` as it is.
   */
  void *user_data;
} afterimage_open_options;

/**
 * How much there is of what. Set `size` to the size of this struct before the call.
 */
typedef struct {
  /**
   * Bytes of this struct.
   */
  size_t size;
  /**
   * Pictures or films.
   */
  uint64_t items;
  /**
   * Frames of each; 1 of pictures.
   */
  uint64_t frames;
  /**
   * Pixels of a row.
   */
  uint64_t width;
  /**
   * Rows.
   */
  uint64_t height;
} afterimage_shape;

/**
 * How far a run is.
 */
typedef struct {
  /**
   * Bytes of this struct.
   */
  size_t size;
  /**
   * Model calls that are made.
   */
  uint64_t done;
  /**
   * Model calls of the run; of several models in a row, of the one that runs.
   */
  uint64_t total;
  /**
   * 1 if the last call computed everything, 0 if it used again what a call before had computed.
   */
  uint32_t refreshed;
} afterimage_progress;

/**
 * Called after every model call. What is handed over lives as long as the call. 0 goes on, anything else cancels the run. It is called on the
 * thread that called `afterimage_run`, and neither throws nor jumps out.
 */
typedef int32_t (*afterimage_progress_fn)(void *user_data, const afterimage_progress *progress);

/**
 * What a picture seems to become.
 */
typedef struct {
  /**
   * Bytes of this struct.
   */
  size_t size;
  /**
   * Which picture or film of the run, from 0; of a film it is the middle frame.
   */
  uint64_t item;
  /**
   * Pixels of a row.
   */
  uint64_t width;
  /**
   * Rows.
   */
  uint64_t height;
  /**
   * Red, green, blue and 255 of every pixel, row after row. They live as long as the call.
   */
  const uint8_t *pixels;
  /**
   * Bytes of them.
   */
  uint64_t length;
} afterimage_preview;

/**
 * Shown what a picture seems to become. What is handed over lives as long as the call. It is called on the thread that called
 * `afterimage_run`, and neither throws nor jumps out.
 */
typedef void (*afterimage_preview_fn)(void *user_data, const afterimage_preview *preview);

/**
 * What a program hears of one run. Set `size` to the size of this struct and all else to zero before anything else.
 */
typedef struct {
  /**
   * Bytes of this struct.
   */
  size_t size;
  /**
   * Handed to every callback as it is; it must live until `afterimage_run` returns.
   */
  void *user_data;
  /**
   * Told after every model call; may be null.
   */
  afterimage_progress_fn progress;
  /**
   * Told what the user should know; may be null.
   */
  afterimage_warning_fn warning;
  /**
   * Shown previews; may be null.
   */
  afterimage_preview_fn preview;
  /**
   * Model calls from one preview to the next; 0 is 5.
   */
  uint32_t preview_every;
  /**
   * Not 0: previews are decoded, each for the time of a decoding. 0: a linear map of the latents makes them, at next to no cost.
   */
  uint32_t preview_decoded;
} afterimage_callbacks;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a token. Any thread may call it.
 */
afterimage_code afterimage_cancel_new(afterimage_cancel **cancel, afterimage_error **error);

/**
 * Has the runs under way end after the step that they are in, with `AFTERIMAGE_CODE_CANCELLED`, and those that wait at once. What is read or
 * decoded just then is read or decoded to its end. Any thread may call it, a callback too, before, during and after a run.
 */
afterimage_code afterimage_cancel_now(const afterimage_cancel *cancel);

/**
 * Lets the run under way finish its pictures, and has runs that wait for it or come later end with `AFTERIMAGE_CODE_CANCELLED`. Any thread may
 * call it, a callback too, before, during and after a run.
 */
afterimage_code afterimage_cancel_after_this(const afterimage_cancel *cancel);

/**
 * Frees a token; runs that were given it go on. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any
 * thread may call it, also during a run.
 */
afterimage_code afterimage_cancel_free(afterimage_cancel *cancel);

/**
 * The interface that the library has; programs compare it with `AFTERIMAGE_ABI_VERSION` before they call anything else. Any thread may call it.
 */
uint32_t afterimage_abi_version(void);

/**
 * The library's version, as in `0.1.0`. The text is the library's and lives as long as it. Any thread may call it.
 */
const char *afterimage_version(void);

/**
 * Writes the devices that this build reaches to `*json`, which the program frees with `afterimage_free`: an array of objects with `selector`
 * (for `afterimage_open_options`), `name`, `class`, `runtime`, `driver`, `memory` in bytes, `dtypes`, and `automatic` on the one that is taken
 * when none is named; devices that do not start have `failure` alone. Any thread may call it.
 */
afterimage_code afterimage_devices(char **json,
                                   afterimage_error **error);

/**
 * Writes what a recipe would do to `*json`, which the program frees with `afterimage_free`: what `afterimage plan --json` prints. Nothing but
 * configurations, and pictures that the recipe names, are read. Any thread may call it.
 */
afterimage_code afterimage_plan(const char *recipe,
                                char **json,
                                afterimage_error **error);

/**
 * What the error is of; `AFTERIMAGE_CODE_HANDLE` if this is no error. Any thread may call it.
 */
afterimage_code afterimage_error_code(const afterimage_error *error);

/**
 * What went wrong, in English and UTF-8; null if this is no error. The text is the error's and lives as long as it. Any thread may call it.
 */
const char *afterimage_error_message(const afterimage_error *error);

/**
 * What to do about it, in English and UTF-8; null if nothing is known, or this is no error. The text is the error's and lives as long as it.
 * Any thread may call it.
 */
const char *afterimage_error_hint(const afterimage_error *error);

/**
 * Frees an error and its texts. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may
 * call it.
 */
afterimage_code afterimage_error_free(afterimage_error *error);

/**
 * Frees a text or pixels that this library has handed over. Null is nothing to free; what was freed already, or is not of this library, is left
 * alone and answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it.
 */
afterimage_code afterimage_free(void *memory);

/**
 * Reads a model into memory: a folder in diffusers' layout, a checkpoint file, `bundled` in builds that carry a model, or a Hub id in builds that
 * fetch; null takes what the options' recipe names, and `bundled` if it names none. `options` may be null. `*model` is the program's, and
 * written on success alone. Any thread may call it, but no callback.
 */
afterimage_code afterimage_model_open(const char *name,
                                      const afterimage_open_options *options,
                                      afterimage_model **model,
                                      afterimage_error **error);

/**
 * Frees a model. Its memory is given back when runs that are under way on it are done. Null is nothing to free; what was freed already is
 * answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it, also during a run.
 */
afterimage_code afterimage_model_free(afterimage_model *model);

/**
 * Writes the device of a model, as in `cuda:0`, to `*text`, which the program frees with `afterimage_free`. Any thread may call it.
 */
afterimage_code afterimage_model_device(const afterimage_model *model,
                                        char **text,
                                        afterimage_error **error);

/**
 * The recipe of a picture or film that was made by afterimage, or of a file of JSON, as JSON in `*json`, which the program frees with
 * `afterimage_free`. Any thread may call it.
 */
afterimage_code afterimage_recipe_read(const char *path,
                                       char **json,
                                       afterimage_error **error);

/**
 * Makes a request that says nothing: the model's defaults, and a random seed. Any thread may call it.
 */
afterimage_code afterimage_request_new(afterimage_request **request, afterimage_error **error);

/**
 * Frees a request. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it.
 */
afterimage_code afterimage_request_free(afterimage_request *request);

/**
 * Adds a prompt; there is a picture or film of each. Any thread may call it.
 */
afterimage_code afterimage_request_add_prompt(const afterimage_request *request,
                                              const char *prompt,
                                              afterimage_error **error);

/**
 * Adds what pictures avoid: once for all prompts, or once a prompt. Any thread may call it.
 */
afterimage_code afterimage_request_add_negative_prompt(const afterimage_request *request,
                                                       const char *prompt,
                                                       afterimage_error **error);

/**
 * Sets the seed. Any thread may call it.
 */
afterimage_code afterimage_request_set_seed(const afterimage_request *request,
                                            uint64_t seed,
                                            afterimage_error **error);

/**
 * Sets the steps of the sampler. Any thread may call it.
 */
afterimage_code afterimage_request_set_steps(const afterimage_request *request,
                                             uint32_t steps,
                                             afterimage_error **error);

/**
 * Sets how strongly prompts guide; a number that is none is refused. Any thread may call it.
 */
afterimage_code afterimage_request_set_guidance_scale(const afterimage_request *request,
                                                      double scale,
                                                      afterimage_error **error);

/**
 * Sets width and height in pixels. Any thread may call it.
 */
afterimage_code afterimage_request_set_size(const afterimage_request *request,
                                            uint32_t width,
                                            uint32_t height,
                                            afterimage_error **error);

/**
 * Sets the pictures of each prompt. Any thread may call it.
 */
afterimage_code afterimage_request_set_batch(const afterimage_request *request,
                                             uint32_t batch,
                                             afterimage_error **error);

/**
 * Sets the sampler by its name, as in `ddim`; it is looked up when the recipe is read. Any thread may call it.
 */
afterimage_code afterimage_request_set_sampler(const afterimage_request *request,
                                               const char *sampler,
                                               afterimage_error **error);

/**
 * Sets what is reused between steps, as in `deepcache:interval=3,branch=0`; it is read when the recipe is. Any thread may call it.
 */
afterimage_code afterimage_request_set_cache(const afterimage_request *request,
                                             const char *rule,
                                             afterimage_error **error);

/**
 * Writes the recipe to `*json`, which the program frees with `afterimage_free`: for `afterimage_run`, `afterimage_plan`, or to be kept. Any thread
 * may call it.
 */
afterimage_code afterimage_request_recipe(const afterimage_request *request,
                                          char **json,
                                          afterimage_error **error);

/**
 * Writes how much there is of what to `*shape`. Any thread may call it.
 */
afterimage_code afterimage_result_shape(const afterimage_result *result,
                                        afterimage_shape *shape,
                                        afterimage_error **error);

/**
 * Copies a frame into the program's buffer: red, green, blue and 255 of every pixel, row after row from above, `width * height * 4` bytes.
 * `length` is in bytes; a buffer that is larger keeps what is behind. A picture is frame 0. Any thread may call it.
 */
afterimage_code afterimage_result_rgba8(const afterimage_result *result,
                                        uint64_t item,
                                        uint64_t frame,
                                        uint8_t *buffer,
                                        size_t length,
                                        afterimage_error **error);

/**
 * The same as numbers of 0 to 1 that are not rounded: red, green and blue of every pixel, `width * height * 3` numbers. `length` is in numbers.
 * Any thread may call it.
 */
afterimage_code afterimage_result_f32(const afterimage_result *result,
                                      uint64_t item,
                                      uint64_t frame,
                                      float *buffer,
                                      size_t length,
                                      afterimage_error **error);

/**
 * `afterimage_result_rgba8` into memory of the library: `*pixels` is the program's, which frees it with `afterimage_free`. Any thread may call it.
 */
afterimage_code afterimage_result_take_rgba8(const afterimage_result *result,
                                             uint64_t item,
                                             uint64_t frame,
                                             uint8_t **pixels,
                                             afterimage_error **error);

/**
 * `afterimage_result_f32` into memory of the library: `*pixels` is the program's, which frees it with `afterimage_free`. Any thread may call it.
 */
afterimage_code afterimage_result_take_f32(const afterimage_result *result,
                                           uint64_t item,
                                           uint64_t frame,
                                           float **pixels,
                                           afterimage_error **error);

/**
 * Writes the recipe that makes the same again to `*json`, which the program frees with `afterimage_free`: with everything that was picked, the seed
 * too, and with hashes. Any thread may call it.
 */
afterimage_code afterimage_result_recipe(const afterimage_result *result,
                                         char **json,
                                         afterimage_error **error);

/**
 * Writes an item to a file, whole or not at all, as the program does and with the same texts in it, its recipe among them: a picture as PNG, JPEG or
 * WebP, a film as APNG, GIF, MP4 (in builds that have it), Y4M or a folder of frames, as the name says. `path` is in UTF-8. Any thread may call it.
 */
afterimage_code afterimage_result_save(const afterimage_result *result,
                                       uint64_t item,
                                       const char *path,
                                       afterimage_error **error);

/**
 * Writes where the time went and what was computed to `*json`, which the program frees with `afterimage_free`: an object with `seconds` (of
 * `loading`, `text`, `denoising`, `decoding`), `evaluations`, `full_evaluations` and `cells_run`. Any thread may call it.
 */
afterimage_code afterimage_result_report(const afterimage_result *result,
                                         char **json,
                                         afterimage_error **error);

/**
 * Frees a result. Null is nothing to free; what was freed already is answered with `AFTERIMAGE_CODE_HANDLE`. Any thread may call it.
 */
afterimage_code afterimage_result_free(afterimage_result *result);

/**
 * Runs a recipe on a model, and returns when it is done; runs on this model that other threads have begun are done first. The recipe is JSON as
 * pictures keep it and `afterimage generate --replay` reads it; what it does not say of the model is as the model was opened, and what it does not
 * say of the run is the model's default. `callbacks` and `cancel` may be null. `*result` is the program's, and written on success alone. Any
 * thread may call it, but no callback.
 */
afterimage_code afterimage_run(const afterimage_model *model,
                               const char *recipe,
                               const afterimage_callbacks *callbacks,
                               const afterimage_cancel *cancel,
                               afterimage_result **result,
                               afterimage_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* AFTERIMAGE_H */
