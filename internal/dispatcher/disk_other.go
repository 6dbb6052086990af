//go:build !unix

package dispatcher

import (
	"errors"
	"os"
)

// Lambda is Linux. On other systems this package is only built, because ktel uses its settings. It has no journal there.

const openFlags = 0

func lock(*os.File) error { return errors.ErrUnsupported }

func (diskFile) Free() (bytes int64, err error) { return 0, errors.ErrUnsupported }
