// A picture from C#, through the declarations that csbindgen makes of the library's sources.
using System;
using System.Runtime.InteropServices;
using System.Text;
using Afterimage;

static unsafe class Example
{
    // The interface that this program is written for.
    const uint Abi = 1;

    static void Check(afterimage_code code, afterimage_error* error)
    {
        if (code == afterimage_code.Ok) return;
        string message = Marshal.PtrToStringAnsi((IntPtr)Native.afterimage_error_message(error));
        Native.afterimage_error_free(error);
        throw new Exception(code + ": " + message);
    }

    static byte[] Utf8(string text)
    {
        return Encoding.UTF8.GetBytes(text + "\0");
    }

    static int Main()
    {
        if (Native.afterimage_abi_version() != Abi) return 1;
        afterimage_error* error;
        afterimage_model* model;
        fixed (byte* name = Utf8("bundled"))
            Check(Native.afterimage_model_open(name, null, &model, &error), error);
        afterimage_result* result;
        fixed (byte* recipe = Utf8("{\"version\": 1, \"prompts\": [\"a blue ring\"], \"seed\": 5, \"steps\": 4}"))
            Check(Native.afterimage_run(model, recipe, null, null, &result, &error), error);
        var shape = new afterimage_shape { size = (UIntPtr)sizeof(afterimage_shape) };
        Check(Native.afterimage_result_shape(result, &shape, &error), error);
        var pixels = new byte[shape.width * shape.height * 4];
        fixed (byte* buffer = pixels)
            Check(Native.afterimage_result_rgba8(result, 0, 0, buffer, (UIntPtr)pixels.Length, &error), error);
        Native.afterimage_result_free(result);
        Native.afterimage_model_free(model);
        Console.WriteLine("{0}x{1} pixels, the first {2},{3},{4}", shape.width, shape.height, pixels[0], pixels[1], pixels[2]);
        return pixels[3] == 255 ? 0 : 1;
    }
}
