"""`unip doctor`: what a camera's frames are, what is wrong with them, and what to do next.

``frames.py`` reads each frame of a sample once and measures it: ``image_quality.py`` (noise, focus, compression),
``sensor_defects.py`` (dead pixels, stripes). ``fixed_defects.py`` adds up the frames of one camera: what stays while
the scene changes. ``bit_depth.py`` tells what the numbers are, ``likeness.py`` how far they are from known data,
``symptoms.py`` what is wrong, ``advice.py`` what to do, ``page.py`` draws the page.
"""
