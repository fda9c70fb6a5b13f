// The script of the pages: each file brings its element or behaviour with it.

import "./navigate";
import "./live";
import "./filter";
import "./keys";
import "./plot";
import "./explore";
import "./copy";
